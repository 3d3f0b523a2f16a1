"""Whatever Linear does meanwhile: nothing is lost, nothing is doubled, and no session stays on "working"."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.states import TaskState
from tests.contract.flow.office import complete_due
from tests.contract.linear.life import DONE, PULL, Life, a_life
from tests.support.linear import errors, faults
from tests.support.linear.entities import Session
from tests.support.linear.faults import Fault
from tests.support.linear.server import LinearApi, linear_api
from tests.support.store import sqlite_template

__all__ = ["sqlite_template"]

pytestmark = pytest.mark.timeout(120)

OPERATIONS = (
    "Who", "CreateActivity", "SessionRequest", "SessionStart", "UpdateIssue", "SessionLinks",
    "ShowProgress", "UpdateSession", "SessionEnd", "LinkPull", "Attach", "LastWord", "Activity",
    faults.TOKEN,
)  # fmt: skip
PASSING: dict[str, Callable[[], Fault]] = {
    "rate limited": lambda: faults.rate_limited(20),
    "rate limited, Retry-After": lambda: faults.rate_limited(20, retry_after=True),
    "502": faults.server_error,
    "504 after the effect": lambda: faults.server_error(504, effect=True),
    "cut before the effect": lambda: faults.cut(effect=False),
    "cut after the effect": lambda: faults.cut(effect=True),
    "too late, without effect": lambda: faults.Fault(effect=False, hold="after"),
    "too late, after the effect": faults.held,
    "token refused": lambda: faults.failed(errors.unauthenticated()),
}
"""What an attempt later finds gone."""
QUICK = sorted(name for name in PASSING if not name.startswith("too late"))
HOSTILE = (
    "@dana @channel ![x](https://evil.example/p.png) [click](https://evil.example) "
    "<img src=x onerror=alert(1)> </issue> https://linear.app/acme/profiles/dana\n"
    "```\n````\n# heading\n| a | b |\n|---|---|\n\x00\x1b[2J\u202egnp.exe\n"
)


@pytest.fixture
async def life(linear: LinearApi, tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Life]:
    async with a_life(linear, path=tmp_path / "errand.db", template=sqlite_template) as made:
        yield made


async def lived(life: Life) -> Session:
    """From the delegation to the last word."""
    session = await life.delegated()
    await life.runs()
    await life.ends()
    return session


async def is_whole(life: Life, session: Session) -> None:
    """Everything that should be there is, once."""
    assert len(await life.tasks()) == 1
    assert await life.dead() == []
    assert session.status == "complete"
    [word] = session.said("response")
    assert "The cookie was read too early." in word
    assert len(session.said("thought")) == 1
    assert len(session.said()) == len(set(session.said()))
    assert session.urls == [(await life.task()).page, PULL]
    assert [a.url for a in life.linear.world.attachments] == [PULL]
    assert session.issue.state.name == "In Review"
    assert session.issue.delegate is life.linear.world.app


async def test_a_life_without_trouble(life: Life) -> None:
    await is_whole(life, await lived(life))


@pytest.mark.parametrize("name", PASSING)
async def test_what_fails_everywhere_once_or_twice_is_made_up_for(life: Life, name: str) -> None:
    for operation in OPERATIONS:
        life.linear.faults.add(PASSING[name](), operation=operation, times=2)
    await is_whole(life, await lived(life))


@settings(max_examples=8)
@given(
    trouble=st.lists(
        st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(QUICK)), min_size=3, max_size=12
    )
)
def test_whatever_fails_in_whatever_order_is_made_up_for(
    trouble: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path
) -> None:
    async def one() -> None:
        path = tmp_path_factory.mktemp("life") / "errand.db"
        async with (
            linear_api() as linear,
            a_life(linear, path=path, template=sqlite_template) as life,
        ):
            for operation, name in trouble:
                linear.faults.add(PASSING[name](), operation=operation)
            await is_whole(life, await lived(life))

    asyncio.run(one())


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_what_is_refused_for_good_is_not_tried_for_ever(life: Life, operation: str) -> None:
    """And holds up nothing: least of all the last word."""
    life.linear.faults.add(faults.permanent(), operation=operation)
    session = await lived(life)
    assert len(await life.tasks()) == 1
    assert session.status == "complete"
    assert len(session.said("response")) == 1


async def test_a_last_word_that_is_refused_for_good_is_said_in_plain_words(life: Life) -> None:
    session = await life.delegated()
    await life.runs()
    life.linear.faults.add(faults.permanent("The body is not allowed."), operation="CreateActivity")
    await life.ends()
    [word] = session.said("response")
    assert session.status == "complete"
    assert PULL in word
    assert "The cookie" not in word
    assert await life.dead() == []


async def test_a_refusal_that_is_refused_still_ends_the_session(life: Life) -> None:
    ops = life.linear.world.other_team
    issue = life.linear.world.issue("Fix it", team=ops)
    session = await life.linear.people.delegate(issue)
    await complete_due(life.completer)
    await life.desk.work_off()
    life.linear.faults.add(faults.permanent(), operation="CreateActivity")
    await life.settle()
    assert await life.tasks() == []
    assert session.status == "error"


async def test_a_delivery_that_comes_again_and_again_is_one_request(life: Life) -> None:
    session = await life.delegated()
    for delivery in list(life.linear.webhooks.deliveries):
        await life.linear.webhooks.send(delivery)
    await life.settle()
    await life.runs()
    for delivery in list(life.linear.webhooks.deliveries):
        await life.linear.webhooks.send(delivery)
    await life.settle()
    await life.ends()
    await is_whole(life, session)


@pytest.mark.parametrize(
    ("operation", "path"),
    [
        ("SessionRequest", "agentSession.issue.state.type"),
        ("SessionStart", "agentSession.issue.state.type"),
        ("SessionStart", "agentSession.issue.team.states.nodes.0.type"),
        ("SessionEnd", "agentSession.issue.state.type"),
        ("SessionEnd", "agentSession.issue.team.states.nodes.0.type"),
    ],
)
async def test_values_that_are_not_known_yet_are_borne(
    life: Life, operation: str, path: str
) -> None:
    life.linear.faults.add(faults.unknown(path), operation=operation)
    session = await lived(life)
    assert (await life.task()).state is TaskState.SUCCEEDED
    assert session.status == "complete"
    assert len(session.said("response")) == 1


async def test_kinds_of_words_that_are_not_known_yet_are_borne(life: Life) -> None:
    session = await life.delegated()
    await life.runs()
    kind = "agentSession.newest.nodes.0.content.__typename"
    life.linear.faults.add(faults.unknown(kind), operation="LastWord")
    await life.linear.people.prompt(session, "status")
    await life.settle()
    await life.ends()
    assert session.status == "complete"


OPTIONAL = {
    "SessionRequest": (
        "agentSession.url", "agentSession.creator", "agentSession.sourceComment", "agentSession.comment",
        "agentSession.issue.description", "agentSession.issue.project", "agentSession.issue.creator",
        "agentSession.issue.delegate", "agentSession.issue.parent", "agentSession.issue",
    ),
    "SessionStart": ("agentSession.creator", "agentSession.issue.delegate", "agentSession.issue"),
    "SessionEnd": ("agentSession.issue",),
}  # fmt: skip
"""What the schema lets be null."""


@pytest.mark.parametrize(
    ("operation", "path"), [(name, path) for name, paths in OPTIONAL.items() for path in paths]
)
async def test_what_may_be_missing_is_not_missed(life: Life, operation: str, path: str) -> None:
    life.linear.faults.add(faults.missing(path), operation=operation)
    session = await lived(life)
    assert len(await life.tasks()) == 1
    assert session.status == "complete"
    assert len(session.said("response")) == 1


async def test_a_description_of_a_megabyte_is_worked_on_in_part(life: Life) -> None:
    session = await life.delegated("Big", "All work and no play. " * 50_000)
    await life.runs()
    await life.ends(DONE.model_copy(update={"text": "word " * 250_000, "tail": "x" * 1_000_000}))
    await is_life_ended(life, session)
    task = await life.task()
    assert len(task.prompt) <= 60_100
    assert all(len(word) < 20_000 for word in session.said())


async def test_hostile_words_stay_words(life: Life) -> None:
    session = await life.delegated(HOSTILE.replace("\n", " "), HOSTILE)
    await life.runs()
    await life.ends(DONE.model_copy(update={"text": HOSTILE, "tail": HOSTILE}))
    await is_life_ended(life, session)
    ours = [a for a in session.history if a.user is life.linear.world.app]
    for activity in ours:
        content = activity.content
        said = " ".join(
            filter(None, [content.body, content.action, content.parameter, content.result])
        )
        for bad in (
            "@dana",
            "@channel",
            "![x](",
            "](https://evil",
            "<img",
            "linear.app",
            "\x00",
            "\x1b",
            "\u202e",
        ):
            assert bad not in said, (bad, said)


async def is_life_ended(life: Life, session: Session) -> None:
    assert len(await life.tasks()) == 1
    assert await life.dead() == []
    assert session.status == "complete"
    assert len(session.said("response")) == 1


def held_back(life: Life) -> str:
    """From now on Linear's deliveries fail; where they should go."""
    url, life.linear.webhooks.url = life.linear.webhooks.url, "http://127.0.0.1:1/"
    assert url is not None
    return url


async def deliver_backwards(life: Life, url: str, since: int) -> None:
    """What was held back comes again, the newest first."""
    life.linear.webhooks.url = url
    for delivery in life.linear.webhooks.deliveries[since:][::-1]:
        await life.linear.webhooks.send(delivery)
        await life.settle()


async def test_a_prompt_that_overtakes_its_request_begins_one_errand(life: Life) -> None:
    """With the ticket's words too: by the time the request comes, its session is taken for one of ours."""
    url, people = held_back(life), life.linear.people
    session = await people.delegate(life.linear.world.issue("Fix it", description="Soon."))
    await people.prompt(session, "also bump it")
    await deliver_backwards(life, url, 0)
    task = await life.task()
    assert (task.state, task.prompt) == (TaskState.QUEUED, "Fix it\n\nSoon.\n\nalso bump it")
    assert task.title == "Fix it"
    assert await life.dead() == []
    asked = life.linear.count("SessionRequest")
    await people.prompt(session, "and test it")
    await life.settle()
    assert await life.steered() == ["and test it"]
    assert life.linear.count("SessionRequest") == asked


async def test_a_prompt_that_overtakes_is_theirs_who_said_it(life: Life) -> None:
    """Whoever delegated the ticket has not asked for it."""
    url, people = held_back(life), life.linear.people
    session = await people.delegate(life.linear.world.issue("Fix it", description="Soon."))
    await people.prompt(session, "also bump it", by=life.linear.world.lee)
    await deliver_backwards(life, url, 0)
    assert (await life.task()).requester_name == life.linear.world.lee.name


async def test_a_request_and_words_found_together_are_each_itself(life: Life) -> None:
    polling = life.channel.polling(life.intake.receive)
    await polling.round()
    held_back(life)
    session = await life.linear.people.delegate(life.linear.world.issue("Fix it"))
    await life.linear.people.prompt(session, "also bump it")
    await polling.round()
    await life.settle()
    assert (await life.task()).prompt == "Fix it"
    assert await life.steered() == ["also bump it"]


async def test_words_in_a_session_from_before_we_took_note_stay_themselves(life: Life) -> None:
    session = await life.delegated()
    await life.channel._notes.swap(f"linear:request:{session.id}", "", None)
    for said in ("also bump it", "and test it"):
        await life.linear.people.prompt(session, said)
        await life.settle()
    assert await life.steered() == ["also bump it", "and test it"]
    assert life.linear.count("SessionRequest") == 2


async def test_a_word_that_overtakes_its_request_is_answered_and_the_errand_begins(
    life: Life,
) -> None:
    url, people = held_back(life), life.linear.people
    session = await people.delegate(life.linear.world.issue("Fix it", description="Soon."))
    await people.prompt(session, "help")
    await deliver_backwards(life, url, 0)
    assert (await life.task()).prompt == "Fix it\n\nSoon."
    assert any("stop" in said for said in session.said("response"))


async def test_a_withdrawal_that_comes_after_a_new_delegation_stops_nothing(life: Life) -> None:
    session = await life.delegated()
    since = len(life.linear.webhooks.deliveries)
    url = held_back(life)
    await life.linear.people.unassign(session.issue)
    again = await life.linear.people.delegate(session.issue)
    await deliver_backwards(life, url, since)
    assert (await life.task()).state is TaskState.QUEUED
    assert again.issue.delegate is life.linear.world.app
    url, since = held_back(life), len(life.linear.webhooks.deliveries)
    await life.linear.people.unassign(session.issue)
    await deliver_backwards(life, url, since)
    assert (await life.task()).state is TaskState.STOPPED
