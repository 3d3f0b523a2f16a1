"""An installation to measure: settings, policy, and a repository in the local forge."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from bot.store import inbox
from integrations.localforge.forge import LocalForge
from tests.support.installation import Installation, until
from tests.support.slack_api import BOT_TOKEN
from tests.support.slack_payloads import SIGNING_SECRET

REPO = "acme/web"
CHANNEL = "C0WEB"
PERSON = "U0DANA"
POLICY = f"""\
version: 1
rules:
  - {{who: ["*"], where: ["slack:{CHANNEL}"], repos: [{REPO}], agents: [script], may: [start, steer, stop]}}
repos:
  {REPO}: {{forge: local, default_for: ["slack:{CHANNEL}"]}}
limits: {{wall_minutes: 5, memory: 512MB, cpus: 1, pids: 128, disk: 128MB, tasks: 4, tasks_per_person: 4,
  tasks_per_repo: 4}}
"""
FILES: Mapping[str, str] = {"README.md": "# web\n", ".errand.yml": "agent: script\n"}


def request(recipe: str) -> str:
    """What to say to the bot to have a recipe run."""
    return f"<@U0ERRAND> measure this\n```sh\n{recipe}\n```"


@contextlib.asynccontextmanager
async def installed(
    root: Path, *, slack_url: str, policy: str = POLICY, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Installation]:
    """Nothing runs yet; what was started is stopped at the end, and its containers are removed."""
    given = {
        "ERRAND_SLACK__BOT_TOKEN": BOT_TOKEN,
        "ERRAND_SLACK__SIGNING_SECRET": SIGNING_SECRET,
        "ERRAND_SLACK__API_URL": slack_url,
    }
    made = Installation(root=root, policy=policy, settings=given | dict(settings or {}))
    forge = LocalForge(made.data / "forge", made.url)
    await forge.create_repo(REPO, FILES)
    await forge.close()
    try:
        yield made
    finally:
        made.stop()
        made.remove_containers()


async def inbox_empty(site: Installation, *, seconds: float = 120) -> None:
    async def look() -> bool:
        async with site.store() as store, store.read() as conn:
            return await inbox.backlog(conn) == 0

    await until(look, seconds=seconds, what="the inbox is worked off")
