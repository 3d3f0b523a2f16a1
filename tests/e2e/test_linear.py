"""A ticket delegated is a ticket worked on: Errand as two processes, the tests' own Linear, real Docker and git."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.states import TaskState
from bot.store.rows import TaskRow
from integrations.localforge.forge import LocalForge
from tests.support.git_server import run_git
from tests.support.installation import Installation, installation, until
from tests.support.linear import faults
from tests.support.linear.entities import Issue, Session
from tests.support.linear.oauth import CLIENT_ID, CLIENT_SECRET
from tests.support.linear.server import LinearApi, linear_api

pytestmark = [pytest.mark.docker, pytest.mark.redis, pytest.mark.timeout(180)]

REPO = "acme/web"
POLICY = """\
version: 1
rules:
  - {who: ["*"], where: ["linear:ENG"], repos: ["*"], agents: [script], may: [start, steer, stop]}
triggers: ["linear:label:errand"]
repos:
  acme/web: {forge: local, default_for: ["linear:ENG"], review_state: In Review}
  acme/api: {forge: local, default_for: ["linear:label:api"]}
limits: {wall_minutes: 5, memory: 512MB, cpus: 1, pids: 128, disk: 128MB}
"""
FILES = {
    "greet.py": "print('helo')\n",
    "check.sh": "grep -q hello greet.py\n",
    ".errand.yml": "verify: sh check.sh\nagent: script\n",
}
FIX = "The greeting is misspelt.\n```sh\nsed -i s/helo/hello/ greet.py\n```"
SLOW = "Look for a while.\n```sh\nfor n in $(seq 1 600); do echo $n; sleep 0.1; done\nsed -i s/helo/hello/ greet.py\n```"


@dataclass(slots=True, kw_only=True)
class Lead:
    """A team lead in Linear, and everything she can see."""

    errand: Installation
    linear: LinearApi

    async def delegate(self, title: str, description: str, **more: object) -> tuple[Issue, Session]:
        issue = self.linear.world.issue(title, description=description)
        session = await self.linear.people.delegate(issue, **more)  # type: ignore[arg-type]
        return issue, session

    async def sees(self, true: Callable[[], object], what: str, *, seconds: float = 60) -> None:
        try:
            await self.linear.until(lambda: bool(true()), seconds=seconds)
        except TimeoutError:
            states = [(s.status, s.said()) for s in self.linear.world.sessions]
            raise AssertionError(f"after {seconds:g} s still not: {what}; {states}") from None

    async def task(self) -> TaskRow:
        [task] = await self.errand.tasks()
        return task

    def file(self, branch: str, path: str, *, repo: str = REPO) -> bytes:
        return run_git(self.errand.data / "forge" / f"{repo}.git", "show", f"{branch}:{path}")


def settings(linear: LinearApi, **more: str) -> dict[str, str]:
    return {
        "ERRAND_LINEAR__CLIENT_ID": CLIENT_ID,
        "ERRAND_LINEAR__CLIENT_SECRET": CLIENT_SECRET,
        "ERRAND_LINEAR__MODE": "client_credentials",
        "ERRAND_LINEAR__API_URL": linear.url,
        **more,
    }


@pytest.fixture
async def linear() -> AsyncIterator[LinearApi]:
    async with linear_api() as api:
        yield api


async def staffed(errand: Installation, linear: LinearApi) -> Lead:
    forge = LocalForge(errand.data / "forge", errand.url)
    for repo in (REPO, "acme/api"):
        await forge.create_repo(repo, FILES)
    await forge.close()
    await errand.up()
    return Lead(errand=errand, linear=linear)


@pytest.fixture
async def lead(tmp_path: Path, linear: LinearApi) -> AsyncIterator[Lead]:
    told = settings(linear, ERRAND_LINEAR__WEBHOOK_SECRET=linear.webhooks.secret)
    async with installation(tmp_path / "e", policy=POLICY, settings=told) as errand:
        linear.webhooks.url = f"{errand.url}/linear/webhook"
        yield await staffed(errand, linear)


@pytest.fixture
async def polled(tmp_path: Path, linear: LinearApi) -> AsyncIterator[Lead]:
    told = settings(linear, ERRAND_LINEAR__POLLING="5")
    async with installation(tmp_path / "e", policy=POLICY, settings=told) as errand:
        yield await staffed(errand, linear)


def no_sooner_than_life(session: Session) -> float:
    assert session.first_sign_at is not None
    return (session.first_sign_at - session.created_at).total_seconds()


async def test_a_delegated_ticket_becomes_a_pull_request(lead: Lead) -> None:
    issue, session = await lead.delegate("Greeting is misspelt", FIX)
    await lead.sees(lambda: session.status == "complete", "the session is complete")
    assert no_sooner_than_life(session) < 5

    task = await lead.task()
    assert task.state is TaskState.SUCCEEDED, task.reason
    assert (task.title, task.branch) == (issue.title, issue.branch_name.lower())
    assert lead.file(task.branch, "greet.py") == b"print('hello')\n"
    assert session.said("thought")
    await lead.sees(
        lambda: session.plan and {step["status"] for step in session.plan} == {"completed"},
        "the plan is done",
    )
    [word] = session.said("response")
    assert session.said("error") == []
    assert task.pull_url in word
    assert {task.page, task.pull_url} <= set(session.urls)
    assert [a.url for a in lead.linear.world.attachments] == [task.pull_url]
    assert (issue.state.name, issue.delegate) == ("In Review", lead.linear.world.app)
    assert {d.answers[0].status for d in lead.linear.webhooks.deliveries} == {200}
    await lead.errand.cleaned_up()


async def test_a_mention_in_a_comment_is_a_request(lead: Lead) -> None:
    issue = lead.linear.world.issue("Greeting", description="Old words.")
    session = await lead.linear.people.mention(issue, FIX)
    await lead.sees(lambda: session.status == "complete", "the session is complete")
    task = await lead.task()
    assert task.state is TaskState.SUCCEEDED, task.reason
    assert "Old words." in task.context


async def test_a_ticket_delivered_twice_and_polled_is_one_task(
    tmp_path: Path, linear: LinearApi
) -> None:
    told = settings(
        linear, ERRAND_LINEAR__WEBHOOK_SECRET=linear.webhooks.secret, ERRAND_LINEAR__POLLING="5"
    )
    async with installation(tmp_path / "e", policy=POLICY, settings=told) as errand:
        linear.webhooks.url = f"{errand.url}/linear/webhook"
        lead = await staffed(errand, linear)
        _, session = await lead.delegate("Greeting", FIX)
        await linear.webhooks.redeliver(0)
        asked = linear.count()
        await lead.sees(lambda: linear.count() >= asked + 12, "polled twice")
        await lead.sees(lambda: session.status == "complete", "the session is complete")
        assert len(await errand.tasks()) == 1


async def test_without_an_inbound_port_linear_is_asked(polled: Lead) -> None:
    issue, session = await polled.delegate("Greeting", FIX)
    await polled.sees(lambda: session.status == "complete", "the session is complete")
    assert (await polled.task()).state is TaskState.SUCCEEDED
    assert issue.state.name == "In Review"


async def test_a_prompt_after_the_end_goes_on_on_the_same_branch(lead: Lead) -> None:
    _, session = await lead.delegate("Greeting", FIX)
    await lead.sees(lambda: session.status == "complete", "the session is complete")
    first = await lead.task()
    await lead.linear.people.prompt(session, "and this\n```sh\necho more >> README.md\n```")
    await lead.sees(lambda: len(session.said("response")) == 2, "a second response")
    task = await lead.task()
    assert (task.round, task.branch, task.pull_url) == (2, first.branch, first.pull_url)
    assert lead.file(task.branch, "README.md") == b"more\n"


async def test_stop_is_answered_at_once_and_nothing_is_said_after_it(lead: Lead) -> None:
    _, session = await lead.delegate("Slow", SLOW)
    await lead.sees(lambda: session.said("action"), "the agent is at work")
    await lead.linear.people.stop(session)
    before = len(session.history)
    await lead.sees(lambda: session.said("response"), "a last word", seconds=15)
    assert (await lead.errand.ended(seconds=10)).state is TaskState.STOPPED
    await lead.errand.cleaned_up()
    assert [activity.content.type for activity in session.history[before:]] == ["response"]
    assert session.status == "complete"


@pytest.mark.parametrize("act", ["unassign", "cancel"])
async def test_a_ticket_taken_back_stops(lead: Lead, act: str) -> None:
    issue, session = await lead.delegate("Slow", SLOW)
    await lead.sees(lambda: session.said("action"), "the agent is at work")
    await getattr(lead.linear.people, act)(issue)
    assert (await lead.errand.ended(seconds=15)).state is TaskState.STOPPED
    await lead.errand.cleaned_up()


@pytest.mark.parametrize("answer", ["acme/api", "in acme/api please"])
async def test_an_unclear_ticket_is_asked_about_with_options(
    tmp_path: Path, linear: LinearApi, answer: str
) -> None:
    told = settings(linear, ERRAND_LINEAR__WEBHOOK_SECRET=linear.webhooks.secret)
    policy = POLICY.replace(', default_for: ["linear:ENG"]', "")
    async with installation(tmp_path / "e", policy=policy, settings=told) as errand:
        linear.webhooks.url = f"{errand.url}/linear/webhook"
        lead = await staffed(errand, linear)
        _, session = await lead.delegate("Greeting", FIX)
        await lead.sees(lambda: session.status == "awaitingInput", "a question")
        [asked] = [a for a in session.history if a.signal == "select"]
        options = (asked.signal_metadata or {})["options"]
        values = [option["value"] for option in options]
        assert values == ["acme/api", "acme/web"]
        await linear.people.prompt(session, answer)
        await lead.sees(lambda: session.status == "complete", "the session is complete")
        assert (await lead.task()).repo == "acme/api"


async def test_a_label_starts_a_ticket_and_another_one_does_not(lead: Lead) -> None:
    issue = lead.linear.world.issue("Greeting", description=FIX)
    await lead.linear.people.add_label(issue, "bug")
    await lead.linear.people.add_label(issue, "errand")
    await lead.sees(
        lambda: [s.status for s in lead.linear.world.sessions] == ["complete"], "one session"
    )
    assert len(await lead.errand.tasks()) == 1


async def test_a_blocked_ticket_waits_and_starts_by_itself(lead: Lead) -> None:
    first = lead.linear.world.issue("First")
    second = lead.linear.world.issue("Greeting", description=FIX)
    await lead.linear.people.block(second, first)
    session = await lead.linear.people.delegate(second)

    def waiting() -> bool:
        results = [activity.content.result or "" for activity in session.history]
        return f"waits for {first.identifier}" in results

    await lead.sees(waiting, "it says what it waits for")
    assert (await lead.task()).state is TaskState.QUEUED
    await lead.linear.people.complete(first)
    await lead.sees(lambda: session.status == "complete", "the session is complete", seconds=90)


async def test_a_token_revoked_in_the_middle_and_restored_loses_nothing(lead: Lead) -> None:
    _, session = await lead.delegate("Slow", SLOW.replace("600", "80"))
    await lead.sees(lambda: session.said("action"), "the agent is at work")
    lead.linear.oauth.client_secret = "rotated"
    lead.linear.oauth.expire()
    await lead.errand.ended(seconds=60)
    lead.linear.oauth.client_secret = CLIENT_SECRET
    await lead.sees(lambda: session.status == "complete", "the session is complete", seconds=90)
    assert len(session.said("response")) == 1


async def test_answers_that_are_lost_double_nothing(lead: Lead) -> None:
    for fault in (faults.cut(effect=True), faults.server_error(), faults.rate_limited()):
        lead.linear.faults.add(fault, operation="agentActivityCreate", times=1)
    _, session = await lead.delegate("Greeting", FIX)
    await lead.sees(lambda: session.status == "complete", "the session is complete", seconds=120)
    assert len(session.said("response")) == 1
    assert len(await lead.errand.tasks()) == 1


async def test_a_refusal_ends_the_session_with_a_reason(lead: Lead) -> None:
    issue = lead.linear.world.issue("Elsewhere", description=FIX, team=lead.linear.world.other_team)
    session = await lead.linear.people.delegate(issue)
    await lead.sees(lambda: session.status == "error", "the session has failed")
    assert "Refused" in session.said("error")[0]
    assert await lead.errand.tasks() == []


async def test_a_failing_ticket_fails_with_the_reason(lead: Lead) -> None:
    _, session = await lead.delegate("Broken", "```sh\necho the-reason >&2; exit 3\n```")
    await lead.sees(lambda: session.status == "error", "the session has failed")
    assert "the-reason" in session.said("error")[0]
    assert session.said("response") == []


async def test_killed_in_the_middle_serve_goes_on(lead: Lead) -> None:
    _, session = await lead.delegate("Slow", SLOW.replace("600", "60"))
    await lead.sees(lambda: session.said("action"), "the agent is at work")
    lead.errand.kill("serve")
    lead.errand.start("serve")
    await lead.errand.answers()
    await lead.sees(lambda: session.status == "complete", "the session is complete", seconds=90)
    assert len(session.said("response")) == 1


async def test_ten_minutes_of_work_cost_at_most_forty_requests(lead: Lead) -> None:
    """A minute with news in every second is counted, and its share of edits stands for the other nine."""
    talk = "".join(f"echo step-{n}\nsleep 1\n" for n in range(55))
    _, session = await lead.delegate(
        "Chatty", f"Talk.\n```sh\n{talk}sed -i s/helo/hello/ greet.py\n```"
    )
    await lead.sees(lambda: session.status == "complete", "the session is complete", seconds=150)
    edits = lead.linear.count("ShowProgress")
    others = lead.linear.count() - edits
    assert edits >= 2
    assert others + edits * 10 <= 40, [r.names[0] for r in lead.linear.requests]


async def test_the_record_names_who_asked_in_linear(lead: Lead) -> None:
    _, session = await lead.delegate("Greeting", FIX)
    await lead.sees(lambda: session.status == "complete", "the session is complete")

    async def shown() -> bool:
        out = lead.errand.cli("task", "show", (await lead.task()).id).stdout
        return "linear:dana@acme.example" in out.replace("\n", "")

    await until(shown, seconds=5, what="the record names who asked")
