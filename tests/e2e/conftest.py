"""Slack and GitHub as emulators, git over HTTP, Errand as two processes, real Docker."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.store.rows import TaskRow
from runner.images.build import ensure_image
from tests.support.docker_host import require_docker
from tests.support.emulate import (
    GITHUB_TOKEN,
    REPO,
    SLACK_BOT_USER,
    SLACK_TOKEN,
    Emulated,
    emulate,
    missing,
)
from tests.support.git_server import GitServer, git_server
from tests.support.installation import Installation, installation, until
from tests.support.slack_payloads import SIGNING_SECRET, signed

POLICY = """\
version: 1
rules:
  - {{who: ["*"], where: ["slack:{channel}"], repos: [{repo}], agents: [script], may: [start, steer, stop, approve]}}
repos:
  {repo}:
    forge: github
    default_for: ["slack:{channel}"]
  acme/secret: {{forge: github}}
limits: {{wall_minutes: 5, memory: 512MB, cpus: 1, pids: 128, disk: 128MB}}
"""
FILES = {
    "README.md": "# web\n",
    "greet.py": "print('helo')\n",
    "check.sh": "grep -q hello greet.py\n",
    ".errand.yml": "verify: sh check.sh\nagent: script\n",
    ".errand/recipes/fix.sh": "sed -i s/helo/hello/ greet.py\n",
}


@pytest.fixture(scope="session", autouse=True)
def _image() -> None:
    require_docker()
    ensure_image(progress=print)
    if why := missing():
        pytest.fail(why)


@pytest.fixture
def files() -> dict[str, str]:
    """What is in the repository."""
    return FILES


@pytest.fixture
def git(tmp_path: Path, files: dict[str, str]) -> Iterator[GitServer]:
    with git_server(tmp_path / "git") as server:
        server.create(REPO, files)
        yield server


@pytest.fixture
async def world() -> AsyncIterator[Emulated]:
    async with emulate() as emulated:
        yield emulated


@dataclass(slots=True)
class Team:
    """A person in Slack, and everything she can see."""

    errand: Installation
    world: Emulated
    git: GitServer
    sent: int = 0

    async def event(
        self,
        text: str,
        *,
        thread: str | None = None,
        kind: str = "app_mention",
        ts: str | None = None,
        event_id: str | None = None,
        secret: str = SIGNING_SECRET,
    ) -> tuple[httpx.Response, str]:
        """Deliver an event as Slack does; the answer and the message's ts."""
        self.sent += 1
        ts = ts or await self.post(text, thread)
        event: dict[str, Any] = {
            "type": kind, "user": self.world.slack_user, "text": text, "ts": ts,
            "channel": self.world.slack_channel, "event_ts": ts, "team": self.world.slack_team,
        }  # fmt: skip
        if kind == "message":
            event["channel_type"] = "channel"
        if thread:
            event["thread_ts"] = thread
        body = json.dumps(
            {
                "token": "unused", "team_id": self.world.slack_team, "api_app_id": "A0ERRAND",
                "event": event, "type": "event_callback", "event_id": event_id or f"Ev{self.sent:08d}",
                "event_time": int(time.time()), "authorizations": [
                    {"enterprise_id": None, "team_id": self.world.slack_team, "user_id": SLACK_BOT_USER,
                     "is_bot": True, "is_enterprise_install": False}
                ],
                "is_ext_shared_channel": False, "event_context": "4-x",
            }
        ).encode()  # fmt: skip
        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"{self.errand.url}/slack/events", content=body,
                headers=signed(body, at=time.time(), secret=secret),
            )  # fmt: skip
        return answer, ts

    async def post(self, text: str, thread: str | None = None) -> str:
        """A message of hers in the emulator, so that replies and reactions find it."""
        said = await self.slack(
            "chat.postMessage", {"channel": self.world.slack_channel, "text": text}
            | ({"thread_ts": thread} if thread else {}), token="xoxp-dana",
        )  # fmt: skip
        return str(said["ts"])

    async def slack(
        self, method: str, args: dict[str, Any], *, token: str = SLACK_TOKEN
    ) -> dict[str, Any]:
        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"{self.world.slack_url}/api/{method}", json=args,
                headers={"authorization": f"Bearer {token}"},
            )  # fmt: skip
        found: dict[str, Any] = answer.json()
        assert found["ok"], (method, found)
        return found

    async def mention(self, request: str, **more: Any) -> str:
        answer, ts = await self.event(f"<@{SLACK_BOT_USER}> {request}", **more)
        assert answer.status_code == 200, answer.text
        return ts

    async def reply(self, text: str, thread: str) -> None:
        answer, _ = await self.event(text, thread=thread, kind="message")
        assert answer.status_code == 200, answer.text

    async def thread(self, ts: str) -> list[str]:
        """What the bot said in a thread, oldest first."""
        found = await self.slack(
            "conversations.replies", {"channel": self.world.slack_channel, "ts": ts}
        )
        return [
            m["text"]
            for m in found["messages"]
            if m["ts"] != ts and m.get("user") == SLACK_BOT_USER
        ]

    async def hears(self, ts: str, *words: str, seconds: float = 60) -> str:
        """Wait for a message of the bot with all these words."""

        async def look() -> str | None:
            return next((t for t in await self.thread(ts) if all(w in t for w in words)), None)

        try:
            return await until(look, seconds=seconds, what=f"a message with {words}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the thread: {await self.thread(ts)}") from error

    async def reactions(self, ts: str) -> set[str]:
        found = await self.slack(
            "reactions.get", {"channel": self.world.slack_channel, "timestamp": ts}
        )
        return {r["name"] for r in found["message"].get("reactions", [])}

    async def pulls(self) -> list[dict[str, Any]]:
        async with httpx.AsyncClient() as client:
            answer = await client.get(
                f"{self.world.github_url}/repos/{REPO}/pulls?state=all",
                headers={"authorization": f"Bearer {GITHUB_TOKEN}"},
            )
        found: list[dict[str, Any]] = answer.json()
        return found

    async def metrics(self) -> str:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{self.errand.url}/metrics")).text

    async def ends(self, ts: str, *, seconds: float = 60) -> TaskRow:
        """The task has ended, and its last word and reaction are in the thread."""
        task = await self.errand.ended(seconds=seconds)

        async def marked() -> bool:
            marks = await self.reactions(ts)
            return "eyes" not in marks and bool(marks)

        await until(marked, seconds=10, what="the message carries how it ended")
        return task


def slack_and_github(world: Emulated, git: GitServer) -> dict[str, str]:
    return {
        "ERRAND_SLACK__BOT_TOKEN": SLACK_TOKEN,
        "ERRAND_SLACK__SIGNING_SECRET": SIGNING_SECRET,
        "ERRAND_SLACK__API_URL": f"{world.slack_url}/api/",
        "ERRAND_GITHUB__TOKEN": git.token,
        "ERRAND_GITHUB__API_URL": world.github_url,
        "ERRAND_GITHUB__GIT_URL": git.url,
    }


@asynccontextmanager
async def team_with(
    root: Path, world: Emulated, git: GitServer, **settings: str
) -> AsyncIterator[Team]:
    """With these settings besides."""
    policy = POLICY.format(channel=world.slack_channel, repo=REPO)
    ours = slack_and_github(world, git) | settings
    async with installation(root, policy=policy, settings=ours) as errand:
        yield Team(errand=errand, world=world, git=git)


@pytest.fixture
async def team(tmp_path: Path, world: Emulated, git: GitServer) -> AsyncIterator[Team]:
    async with team_with(tmp_path / "e", world, git) as made:
        await made.errand.up()
        yield made
