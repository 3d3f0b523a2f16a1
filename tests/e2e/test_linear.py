"""A ticket delegated is a ticket worked on: Errand as two processes, the tests' own Linear, real Docker and git.

One installation serves all tests of this file, one after the other: each has tickets of its own.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import pairwise

import pytest
import pytest_asyncio

from bot.states import TaskState
from tests.e2e.lead import FIX, OTHER_REPO, Lead, a_lead
from tests.support.installation import until
from tests.support.linear import faults
from tests.support.linear.entities import Session
from tests.support.linear.oauth import CLIENT_SECRET

pytestmark = [
    pytest.mark.docker,
    pytest.mark.redis,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lead]:
    async with a_lead(tmp_path_factory.mktemp("linear") / "e") as made:
        yield made


@pytest.fixture
def lead(installed: Lead) -> Iterator[Lead]:
    """Linear is well again after each test, whatever the test did to it."""
    yield installed
    installed.linear.faults.clear()
    installed.linear.oauth.client_secret = CLIENT_SECRET
    print(installed.errand.logs())  # noqa: T201  pytest shows it where a test fails


def seconds_to_life(session: Session) -> float:
    assert session.first_sign_at is not None
    return (session.first_sign_at - session.created_at).total_seconds()


async def test_a_delegated_ticket_becomes_a_pull_request(lead: Lead) -> None:
    issue, session = await lead.delegate("Greeting is misspelt", FIX)
    await lead.sees_end(session)
    assert seconds_to_life(session) < 5

    task = await lead.task(session)
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
    attached = [a.url for a in lead.linear.world.attachments if a.issue is issue]
    assert attached == [task.pull_url]
    assert (issue.state.name, issue.delegate) == ("In Review", lead.linear.world.app)
    assert {d.answers[0].status for d in lead.linear.webhooks.deliveries} == {200}
    await lead.errand.cleaned_up()


async def test_a_mention_in_a_comment_is_a_request(lead: Lead) -> None:
    issue = lead.linear.world.issue("Greeting", description="Old words.")
    session = await lead.linear.people.mention(issue, FIX)
    await lead.sees_end(session)
    task = await lead.task(session)
    assert task.state is TaskState.SUCCEEDED, task.reason
    assert "Old words." in task.context


# --- prompted


async def test_a_prompt_while_it_runs_is_its_next_turn(lead: Lead) -> None:
    _, session = await lead.at_work(6)
    await lead.linear.people.prompt(session, "and this\n```sh\necho more >> README.md\n```")
    await lead.sees(lambda: "Noted" in "".join(session.said("thought")), "it is noted", seconds=5)
    assert session.status == "active"
    assert session.said("response") == []
    await lead.sees_end(session)
    task = await lead.task(session)
    assert (task.round, task.fence, task.state) == (1, 1, TaskState.SUCCEEDED)
    assert len(session.said("response")) == 1
    assert lead.file(task.branch, "README.md") == b"more\n"
    assert lead.file(task.branch, "greet.py") == b"print('hello')\n"


async def test_a_prompt_while_it_waits_is_kept_for_when_it_starts(lead: Lead) -> None:
    first = lead.linear.world.issue("First")
    issue = lead.linear.world.issue("Greeting", description=FIX)
    await lead.linear.people.block(issue, first)
    session = await lead.linear.people.delegate(issue)
    await lead.is_in(session, TaskState.QUEUED)
    await lead.linear.people.prompt(session, "and this\n```sh\necho more >> README.md\n```")
    await lead.sees(lambda: "Noted" in "".join(session.said()), "it is noted", seconds=5)
    await lead.linear.people.complete(first)
    await lead.ended(session, seconds=90)

    async def has_both() -> bool:
        task = await lead.task(session)
        return task.state is TaskState.SUCCEEDED and bool(task.pull_url) and _has(lead, task.branch)

    await until(has_both, seconds=60, what="both were done")


def _has(lead: Lead, branch: str) -> bool:
    return b"README.md" in lead.file(branch, "")


async def test_a_prompt_after_the_end_goes_on_on_the_same_branch(lead: Lead) -> None:
    _, session = await lead.delegate("Greeting", FIX)
    await lead.sees_end(session)
    first = await lead.task(session)
    await lead.linear.people.prompt(session, "and this\n```sh\necho more >> README.md\n```")
    await lead.sees(lambda: len(session.said("response")) == 2, "a second response")
    task = await lead.task(session)
    assert (task.round, task.branch, task.pull_url) == (2, first.branch, first.pull_url)
    assert lead.file(task.branch, "README.md") == b"more\n"


# --- stopped, in each state


async def test_stop_is_answered_at_once_and_nothing_is_said_after_it(lead: Lead) -> None:
    _, session = await lead.at_work()
    await lead.linear.people.stop(session)
    before = len(session.history)
    await lead.sees(lambda: session.said("response"), "a last word", seconds=15)
    assert (await lead.ended(session, seconds=10)).state is TaskState.STOPPED
    await lead.errand.cleaned_up()
    assert [activity.content.type for activity in session.history[before:]] == ["response"]
    assert "Nothing was published" in session.said("response")[0]
    assert session.status == "complete"


async def test_stop_before_it_began_is_the_end_of_it(lead: Lead) -> None:
    first = lead.linear.world.issue("First")
    issue = lead.linear.world.issue("Greeting", description=FIX)
    await lead.linear.people.block(issue, first)
    session = await lead.linear.people.delegate(issue)
    await lead.is_in(session, TaskState.QUEUED)
    await lead.linear.people.stop(session)
    await lead.sees_end(session, seconds=10)
    [word] = session.said("response")
    assert "Stopped before it began." in word
    await lead.linear.people.complete(first)
    assert (await lead.task(session)).state is TaskState.STOPPED


async def test_stop_to_a_question_begins_nothing(lead: Lead) -> None:
    session = await unclear(lead)
    await lead.linear.people.stop(session)
    await lead.sees_end(session, seconds=10)
    assert session.said("response") == ["All right, nothing is begun."]
    assert await lead.tasks(session) == []


async def test_stop_while_it_is_published_comes_too_late_and_says_so(lead: Lead) -> None:
    with lead.forge_busy():
        _, session = await lead.delegate("Greeting", FIX)
        await lead.is_in(session, TaskState.PUBLISHING)
        await lead.linear.people.stop(session)
        await lead.sees(
            lambda: "Too late to stop" in "".join(session.said("thought")), "too late", seconds=10
        )
    await lead.sees_end(session)
    assert (await lead.task(session)).state is TaskState.SUCCEEDED
    assert len(session.said("response")) == 1


async def test_stop_after_the_end_says_that_nothing_runs(lead: Lead) -> None:
    _, session = await lead.delegate("Broken", "```sh\necho the-reason >&2; exit 3\n```")
    await lead.sees(lambda: session.status == "error", "the session has failed")
    assert "the-reason" in session.said("error")[0]
    assert session.said("response") == []
    await lead.linear.people.stop(session)
    await lead.sees_end(session, seconds=10)
    assert session.said("response") == ["Nothing is running here."]


@pytest.mark.parametrize("act", ["unassign", "cancel"])
async def test_a_ticket_taken_back_stops(lead: Lead, act: str) -> None:
    issue, session = await lead.at_work()
    await getattr(lead.linear.people, act)(issue)
    assert (await lead.ended(session, seconds=15)).state is TaskState.STOPPED
    await lead.sees_end(session, seconds=10)
    await lead.errand.cleaned_up()


# --- asked


async def unclear(lead: Lead) -> Session:
    """A ticket that could be about two repositories."""
    ops = lead.linear.world.other_team
    issue = lead.linear.world.issue("Greeting", description=FIX, team=ops)
    session = await lead.linear.people.delegate(issue)
    await lead.sees(lambda: session.status == "awaitingInput", "a question")
    return session


@pytest.mark.parametrize("answer", [OTHER_REPO, f"in {OTHER_REPO} please"])
async def test_an_unclear_ticket_is_asked_about_with_options(lead: Lead, answer: str) -> None:
    session = await unclear(lead)
    [asked] = [a for a in session.history if a.signal == "select"]
    options = (asked.signal_metadata or {})["options"]
    assert sorted(option["value"] for option in options) == ["acme/api", "acme/web"]
    await lead.linear.people.prompt(session, answer)
    await lead.sees_end(session)
    assert (await lead.task(session)).repo == OTHER_REPO


@pytest.mark.parametrize("answer", ["hello", "hello to all"])
async def test_an_agent_asks_with_options_and_goes_on_with_the_answer(
    lead: Lead, answer: str
) -> None:
    recipe = 'word=$(ask "Which greeting?" hello hi)\nsed -i "s/helo/$word/" greet.py'
    _, session = await lead.delegate("Greeting", f"Mend it.\n```sh\n{recipe}\n```")
    await lead.sees(lambda: session.status == "awaitingInput", "a question")
    [asked] = [a for a in session.history if a.signal == "select"]
    assert (asked.signal_metadata or {})["options"] == [
        {"label": "hello", "value": "hello"},
        {"label": "hi", "value": "hi"},
    ]
    await lead.is_in(session, TaskState.WAITING)
    await lead.linear.people.prompt(session, answer)
    await lead.sees_end(session, seconds=90)
    task = await lead.task(session)
    assert lead.file(task.branch, "greet.py") == f"print('{answer}')\n".encode()


# --- begun in other ways


async def test_a_label_starts_a_ticket_and_another_one_does_not(lead: Lead) -> None:
    issue = lead.linear.world.issue("Greeting", description=FIX)

    def sessions() -> list[Session]:
        return [s for s in lead.linear.world.sessions if s.issue is issue]

    await lead.linear.people.add_label(issue, "bug")
    await lead.linear.people.add_label(issue, "errand")
    await lead.sees(lambda: [s.status for s in sessions()] == ["complete"], "one session")
    assert len(await lead.tasks(sessions()[0])) == 1


async def test_a_blocked_ticket_waits_and_starts_by_itself(lead: Lead) -> None:
    first = lead.linear.world.issue("First")
    second = lead.linear.world.issue("Greeting", description=FIX)
    await lead.linear.people.block(second, first)
    session = await lead.linear.people.delegate(second)

    def waiting() -> bool:
        results = [activity.content.result or "" for activity in session.history]
        return f"waits for {first.identifier}" in results

    await lead.sees(waiting, "it says what it waits for")
    assert (await lead.task(session)).state is TaskState.QUEUED
    await lead.linear.people.complete(first)
    await lead.sees_end(session, seconds=90)


# --- what goes wrong


async def test_a_token_revoked_in_the_middle_and_restored_loses_nothing(lead: Lead) -> None:
    _, session = await lead.at_work(5)
    lead.linear.oauth.client_secret = "rotated"
    lead.linear.oauth.expire()
    assert (await lead.ended(session)).state is TaskState.SUCCEEDED
    assert session.status == "active"
    lead.linear.oauth.client_secret = CLIENT_SECRET
    await lead.sees_end(session, seconds=90)
    assert len(session.said("response")) == 1


async def test_answers_that_are_lost_double_nothing(lead: Lead) -> None:
    for fault in (faults.cut(effect=True), faults.server_error(), faults.rate_limited(3)):
        lead.linear.faults.add(fault, operation="agentActivityCreate", times=1)
    _, session = await lead.delegate("Greeting", FIX)
    await lead.sees_end(session, seconds=120)
    assert lead.linear.faults.waiting == []
    assert len(session.said("response")) == 1
    assert len(session.said()) == len(set(session.said()))
    assert len(await lead.tasks(session)) == 1


async def test_a_refusal_ends_the_session_with_a_reason(lead: Lead) -> None:
    world = lead.linear.world
    issue = world.issue("Greeting", description=FIX)
    session = await lead.linear.people.delegate(issue, by=world.lee)
    await lead.sees(lambda: session.status == "error", "the session has failed")
    assert "Refused" in session.said("error")[0]
    assert await lead.tasks(session) == []


async def test_killed_in_the_middle_serve_goes_on(lead: Lead) -> None:
    _, session = await lead.at_work(5)
    lead.errand.kill("serve")
    lead.errand.start("serve")
    await lead.errand.answers()
    await lead.sees_end(session, seconds=90)
    assert len(session.said("response")) == 1


async def test_ten_minutes_of_work_cost_at_most_forty_requests(lead: Lead) -> None:
    """A minute with news in every second is counted: what a run costs once, and how far its edits are apart."""
    before = len(lead.linear.requests)
    talk = "".join(f"sleep 1.{n:02}\n" for n in range(48))
    recipe = f"Talk.\n```sh\n{talk}sed -i s/helo/hello/ greet.py\n```"
    issue, session = await lead.delegate("Chatty", recipe)
    await lead.sees_end(session, seconds=150)
    asked = [
        request.names[0]
        for request in lead.linear.requests[before:]
        if {issue.id, session.id} & strings(request.variables) or request.names[0] == "UserByEmail"
    ]
    once = len(asked) - asked.count("ShowProgress")
    shown = [a.created_at for a in session.history if a.content.type == "action"]
    assert len(shown) >= 3, (session.said(), asked)
    # The first edit follows the card soon; the rest keep their distance.
    apart = min((b - a).total_seconds() for a, b in pairwise(shown[1:]))
    assert once + 2 + 600 / apart <= 40, (asked, apart)


def strings(given: object) -> set[str]:
    """All that stand in a request's variables, however deep."""
    if isinstance(given, Mapping):
        return set[str]().union(*(strings(value) for value in given.values()))
    if isinstance(given, list):
        return set[str]().union(*(strings(value) for value in given))
    return {given} if isinstance(given, str) else set()


async def test_the_record_names_who_asked_in_linear(lead: Lead) -> None:
    _, session = await lead.delegate("Greeting", FIX)
    await lead.is_in(session, *TaskState)

    async def shown() -> bool:
        out = lead.errand.cli("task", "show", (await lead.task(session)).id).stdout
        return "linear:dana@acme.example" in out.replace("\n", "")

    await until(shown, seconds=10, what="the record names who asked")
    await lead.sees_end(session)
