"""One errand in Slack and in Linear at once: both show it, both steer and stop it, and neither echoes the other."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from bot.states import TaskState
from bot.store.rows import TaskRow
from integrations.localforge.forge import LocalForge
from tests.e2e.lead import FILES, OTHER_REPO, REPO, Lead, settings, slow
from tests.e2e.slack_workspace import CHANNEL, PEOPLE, Workspace
from tests.support.git_server import git_server
from tests.support.installation import installation, until
from tests.support.linear.entities import Session
from tests.support.linear.server import linear_api
from tests.support.slack_api import BOT_ID, BOT_TOKEN, BOT_USER, Json, slack_api
from tests.support.slack_payloads import SIGNING_SECRET

pytestmark = [
    pytest.mark.docker,
    pytest.mark.redis,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]

POLICY = f"""\
version: 1
people:
  us: ["slack:{PEOPLE["dana"]}", "linear:dana@acme.example"]
rules:
  - {{who: [us], where: ["slack:*", "linear:ENG", "linear:OPS"], repos: ["*"], agents: [script], may: [start, steer, stop]}}
repos:
  {REPO}: {{forge: local, default_for: ["slack:{CHANNEL}", "linear:ENG"]}}
  {OTHER_REPO}: {{forge: local, default_for: ["linear:OPS"], follow: ["slack:{CHANNEL}"]}}
limits: {{wall_minutes: 5, memory: 512MB, cpus: 1, pids: 128, disk: 128MB}}
"""
MORE = "and this\n```sh\necho more >> README.md\n```"


@dataclass(slots=True, kw_only=True)
class Both:
    """What can be seen of an errand here and there."""

    lead: Lead
    slack: Workspace
    before: tuple[Session, ...] = ()
    """Sessions of other tests."""
    tasks: int = 0

    async def session(self) -> Session:
        """The one that has begun."""

        def new() -> list[Session]:
            return [s for s in self.lead.linear.world.sessions if s not in self.before]

        await self.lead.sees(new, "a session")
        [session] = new()
        return session

    def ours(self, root: str, words: str) -> list[Json]:
        said = [m for m in self.slack.thread(root) if m.get("bot_id") == BOT_ID]
        return [m for m in said if words in str(m["text"])]

    async def ended(self) -> TaskRow:
        """The newest errand; there was one more, and no other came of it."""
        task = await self.lead.errand.ended()
        assert len(await self.lead.errand.tasks()) == self.tasks + 1
        return task


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    root = tmp_path_factory.mktemp("two")
    async with slack_api() as api, linear_api() as linear:
        api.people = {user: (name, name.title()) for name, user in PEOPLE.items()}
        told = settings(
            linear,
            ERRAND_LINEAR__WEBHOOK_SECRET=linear.webhooks.secret,
            ERRAND_SLACK__BOT_TOKEN=BOT_TOKEN,
            ERRAND_SLACK__SIGNING_SECRET=SIGNING_SECRET,
            ERRAND_SLACK__API_URL=api.url,
        )
        with git_server(root / "git") as git:
            async with installation(root / "e", policy=POLICY, settings=told) as errand:
                linear.webhooks.url = f"{errand.url}/linear/webhook"
                forge = LocalForge(errand.data / "forge", errand.url)
                for repo in (REPO, OTHER_REPO):
                    await forge.create_repo(repo, FILES)
                await forge.close()
                await errand.up()
                slack = Workspace(errand=errand, api=api, git=git, github_url="")
                yield Both(lead=Lead(errand=errand, linear=linear), slack=slack)


@pytest_asyncio.fixture(loop_scope="module")
async def both(installed: Both) -> AsyncIterator[Both]:
    before = tuple(installed.lead.linear.world.sessions)
    tasks = len(await installed.lead.errand.tasks())
    yield replace(installed, before=before, tasks=tasks)
    print(installed.lead.errand.logs())  # noqa: T201  pytest shows it where a test fails


async def test_a_ticket_that_a_request_in_slack_names_follows_it_and_steers_it(both: Both) -> None:
    issue = both.lead.linear.world.issue("Greeting is misspelt")
    root = await both.slack.say("dana", f"<@{BOT_USER}> mend {issue.identifier}: {slow(15)}")
    session = await both.session()
    await both.lead.sees(lambda: session.said("action"), "Linear shows the work")
    await both.slack.sees(root, "step-")

    await both.lead.linear.people.prompt(session, MORE)
    await both.lead.sees(lambda: "Noted" in "".join(session.said("thought")), "it is noted")
    await both.lead.sees_end(session)
    await both.slack.sees(root, "Done in")
    await both.slack.settled(45)  # edits in Linear keep their distance
    task = await both.ended()
    assert task.state is TaskState.SUCCEEDED, task.reason
    assert both.lead.file(task.branch, "README.md") == b"more\n"
    assert {task.page, task.pull_url} <= set(session.urls)
    assert len(session.said("response")) == 1
    assert len(both.ours(root, "Done in")) == 1
    assert "Noted" not in str(both.slack.thread(root))


async def test_a_ticket_is_made_by_a_button_and_stops_the_work(both: Both) -> None:
    root = await both.slack.say("dana", f"<@{BOT_USER}> mend the greeting: {slow(60)}")
    card = await both.slack.sees(root, "step-")
    for _ in range(2):
        await both.slack.click("dana", card, "create issue")
    session = await both.session()
    assert session.issue.title.startswith("mend the greeting")
    await both.lead.sees(lambda: session.said("action"), "Linear shows the work")

    await both.lead.linear.people.stop(session)
    await both.lead.sees_end(session)
    await both.slack.sees(root, "Stopped after")
    assert (await both.ended()).state is TaskState.STOPPED
    assert len(session.said("response")) == 1
    assert len(both.ours(root, "Stopped after")) == 1
    assert both.lead.linear.count("CreateIssue") == 1


async def test_a_ticket_is_followed_in_a_channel_and_stopped_there(both: Both) -> None:
    issue = both.lead.linear.world.issue(
        "Slow", description=slow(60), team=both.lead.linear.world.other_team
    )
    session = await both.lead.linear.people.delegate(issue)

    async def begun() -> str | None:
        roots = [m for m in both.slack.api.messages[CHANNEL] if "Slow" in str(m["text"])]
        return str(roots[0]["ts"]) if roots else None

    root = await until(begun, seconds=30, what="a thread in Slack follows it")
    await both.slack.sees(root, "step-")
    await both.slack.say("dana", "stop", thread=root)
    await both.lead.sees_end(session)
    await both.slack.sees(root, "Stopped after")
    assert (await both.ended()).state is TaskState.STOPPED
    assert len(session.said("response")) == 1
