"""What tickets ask for: completed first, one errand at a time, in their order, seen from two places."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs
from typing_extensions import override

from bot.completion import BATCH, CALL_SECONDS, PAUSES
from bot.standing import stopped_destinations
from bot.states import TaskState
from bot.store import figures, inbox
from bot.tasks import end_round
from bot.vigil import ASK_AGAIN
from integrations.channel import Final, Inbound, Mark, Suggestion
from integrations.errors import RateLimitedError, RejectedError, UnavailableError
from integrations.testing import FakeChannel
from policies.model import Policy
from tests.contract.flow.office import HERE, Office, complete_due
from tests.support import installation
from tests.support.builders import POLICY, a_conversation
from tests.support.loops import running
from tests.support.site import until

AWAY = UnavailableError("fake", "timeout")
TICKET: dict[str, Any] = {
    "title": "Login is flaky",
    "item": "FAKE-7",
    "branch": "dana/fake-7-login",
}
ELSEWHERE = a_conversation(thread="9.0")


def policy(**changes: Any) -> Policy:
    data = POLICY.model_dump(mode="json")
    repo = {**data["repos"]["acme/web"], **changes.pop("web", {})}
    return Policy.model_validate({**data, **changes, "repos": {**data["repos"], "acme/web": repo}})


async def hear(office: Office, text: str, **changes: Any) -> None:
    """As `Office.hear`, for deliveries of a tracker."""
    shape = {name: changes.pop(name) for name in ("place", "thread", "author") if name in changes}
    inbound = office.inbound(text, **shape).model_copy(update=changes)
    await office.intake.receive(inbound)
    await complete_due(office.completer)
    await office.desk.work_off()


async def ticket(office: Office, **changes: Any) -> None:
    await hear(office, "acme/web please", **{**TICKET, **changes})


async def test_a_partial_delivery_is_completed_before_it_is_dealt_with(office: Office) -> None:
    office.channel.completion = {
        "title": "Login",
        "context": "comments",
        "branch": "dana/fake-1-login",
    }
    await hear(office, "acme/web the text", partial=True)
    task = await office.task()
    assert (task.title, task.context, task.branch) == ("Login", "comments", "dana/fake-1-login")


async def test_a_title_makes_a_request_of_a_single_word(office: Office) -> None:
    await hear(office, "acme/web", title="Stop", topics=("fake:label:x",))
    assert (await office.task()).title == "Stop"


async def test_what_cannot_be_completed_is_tried_again_and_then_goes_on_without(
    office: Office,
) -> None:
    office.channel.fail(AWAY, times=len(PAUSES) + 1)
    completer = office.completer
    await office.intake.receive(office.inbound("acme/web fix").model_copy(update={"partial": True}))
    for pause in (0, *PAUSES):
        assert await office.tasks() == []
        office.clock.forward(pause)
        await complete_due(completer)
        await office.desk.work_off()
    assert len(await office.tasks()) == 1
    assert office.channel.calls == ["complete"] * 4


async def test_a_refusal_is_asked_about_once_more_and_not_again(office: Office) -> None:
    office.channel.fail(RejectedError("fake", "not_found"), times=9)
    completer = office.completer
    await office.intake.receive(office.inbound("acme/web fix").model_copy(update={"partial": True}))
    for _ in range(3):
        await complete_due(completer)
        office.clock.forward(30)
    await office.desk.work_off()
    assert office.channel.calls == ["complete"] * 2
    assert len(await office.tasks()) == 1


@pytest.mark.parametrize(("asked", "waited"), [(40, 40), (9999, 300), (0, 1)])
async def test_a_service_that_is_asked_too_often_is_left_alone(
    office: Office, asked: float, waited: float
) -> None:
    office.channel.fail(RateLimitedError("fake", asked))
    completer = office.completer
    await office.intake.receive(office.inbound("acme/web fix").model_copy(update={"partial": True}))
    await complete_due(completer)
    office.clock.forward(waited - 0.5)
    await complete_due(completer)
    assert office.channel.calls == ["complete"]
    office.clock.forward(1)
    await complete_due(completer)
    await office.desk.work_off()
    assert office.channel.calls == ["complete"] * 2
    assert len(await office.tasks()) == 1


async def test_a_channel_in_trouble_holds_up_no_other(office: Office) -> None:
    office.channel.fail(AWAY, times=3 * BATCH)
    for n in range(BATCH + 5):
        await office.intake.receive(partial(office, n))
    elsewhere = partial(office, 99, channel="other")
    await office.intake.receive(elsewhere)
    completer = office.completer
    assert await complete_due(completer) == 0
    assert await complete_due(completer) == 1
    await office.desk.work_off()
    assert len(office.elsewhere.calls) == 1


async def test_a_damaged_row_behind_many_in_trouble_is_buried(office: Office) -> None:
    office.channel.fail(AWAY, times=3 * BATCH)
    for n in range(BATCH + 1):
        await office.intake.receive(partial(office, n))
    async with office.store.begin() as tx:
        damage = "UPDATE inbox SET inbound = '{}' WHERE id = (SELECT max(id) FROM inbox)"
        await tx.execute(text(damage))
    completer = office.completer
    await complete_due(completer)
    await complete_due(completer)
    async with office.store.read() as conn:
        assert len(await inbox.raw(conn, limit=100)) == BATCH


async def test_a_damaged_row_that_waits_for_completion_holds_up_nobody(office: Office) -> None:
    await office.intake.receive(partial(office, 0))
    async with office.store.begin() as tx:
        await tx.execute(text("UPDATE inbox SET inbound = '{}'"))
    await office.hear("acme/web fix it", thread="77.0")
    assert len(await office.tasks()) == 1


async def test_what_came_before_what_waits_for_completion_does_not_wait(office: Office) -> None:
    await office.intake.receive(office.inbound("acme/web fix it", thread="0.0"))
    await office.intake.receive(partial(office, 0))
    await office.desk.work_off()
    assert len(await office.tasks()) == 1


class BrokenChannel(FakeChannel):
    """A channel with a bug that only some deliveries meet; to the others it never answers."""

    @override
    async def complete(self, inbound: Inbound) -> Inbound:
        self.calls.append("complete")
        if inbound.conversation.thread == "0.0":
            raise AttributeError("a bug")
        await asyncio.Event().wait()
        return inbound


async def test_what_breaks_cancels_no_call_and_goes_on_without(office: Office) -> None:
    office.channel = channel = BrokenChannel()
    await office.intake.receive(partial(office, 1))
    await office.intake.receive(partial(office, 0))
    async with running(office.completer.run()):

        async def called(times: int) -> None:
            await until(lambda: len(channel.calls) == times)

        await called(2)
        for n, pause in enumerate(PAUSES):
            office.clock.forward(pause)
            await called(3 + n)

        async def is_whole() -> bool:
            return sorted(await office.inbox_states()) == ["new", "raw"]

        await installation.until(is_whole, seconds=30, what="it goes on as far as it goes")


async def test_what_breaks_while_others_are_looked_for_is_paused_too(office: Office) -> None:
    office.channel = channel = BrokenChannel()
    await office.intake.receive(partial(office, 0))
    completer = office.completer
    [row] = await completer.take()
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(completer.take())
        group.create_task(completer.settle(row))
    assert looking.result() == []
    assert channel.calls == ["complete"]


async def test_what_was_taken_on_a_duty_that_was_lost_is_completed_on_the_next(
    office: Office,
) -> None:
    completer = office.completer
    await office.intake.receive(partial(office, 0))
    assert len(await completer.take()) == 1

    async def is_whole() -> bool:
        return await office.inbox_states() == ["new"]

    async with running(completer.run()):
        await installation.until(is_whole, seconds=30, what="it is completed")


async def test_what_cannot_be_stored_is_not_asked_for_again_at_once(office: Office) -> None:
    office.channel = channel = FakeChannel()
    await office.intake.receive(partial(office, 0))
    completer = office.completer
    with capture_logs() as logs:
        async with office.refusing("inbox", "UPDATE"), running(completer.run()):
            await until(lambda: "completion_store_unreachable" in [line["event"] for line in logs])
    assert await completer.take() == []
    office.clock.forward(PAUSES[0])
    assert len(await completer.take()) == 1
    assert channel.calls == ["complete"]


class HangingChannel(FakeChannel):
    """A channel that is asked, and never answers."""

    @override
    async def complete(self, inbound: Inbound) -> Inbound:
        self.calls.append("complete")
        await asyncio.Event().wait()
        return inbound


async def test_a_channel_that_hangs_holds_up_no_other(office: Office) -> None:
    office.channel = channel = HangingChannel()
    for n in range(3 * BATCH):
        await office.intake.receive(partial(office, n))
    async with running(office.completer.run()):
        await until(lambda: len(channel.calls) >= BATCH)
        await office.intake.receive(partial(office, 99, channel="other"))
        await until(lambda: office.elsewhere.calls == ["complete"])
    assert len(channel.calls) < 2 * BATCH


async def test_what_waits_behind_a_partial_delivery_holds_up_no_other(office: Office) -> None:
    await office.intake.receive(partial(office, 0))
    for n in range(120):
        await office.intake.receive(office.inbound(f"behind {n}", thread="0.0"))
    await office.hear("acme/web fix it", thread="77.0")
    assert [task.conversation.thread for task in await office.tasks()] == ["77.0"]


def partial(office: Office, n: int, *, channel: str = "fake") -> Inbound:
    """A delivery in a conversation of its own, which its channel has to complete."""
    inbound = office.inbound("acme/web fix it", thread=f"{n}.0")
    there = inbound.conversation.model_copy(update={"channel": channel})
    return inbound.model_copy(update={"partial": True, "conversation": there})


async def test_what_comes_after_a_partial_delivery_waits_for_it(office: Office) -> None:
    partial = office.inbound("acme/web fix").model_copy(update={"partial": True})
    later = office.inbound("use the mirror", addressed=False)
    other = office.inbound("acme/web another", thread="5.0")
    for inbound in (partial, later, other):
        await office.intake.receive(inbound)
    assert await office.desk.work_off() == 1
    await complete_due(office.completer)
    await office.desk.work_off()
    assert len(await office.tasks()) == 2
    assert await office.inbox_states() == ["done"] * 3


async def test_a_sure_suggestion_decides_where_several_are_open(office: Office) -> None:
    office.channel.suggestion = Suggestion(repo="acme/api", confidence=0.8)
    await hear(office, "fix it", partial=True, title="Fix it")
    task = await office.task()
    assert (task.repo, task.repo_reason) == ("acme/api", "suggested by fake")


async def test_an_unsure_suggestion_leads_to_the_question(office: Office) -> None:
    office.channel.suggestion = Suggestion(repo="acme/api", confidence=0.5)
    await hear(office, "fix it", partial=True, title="Fix it")
    assert await office.tasks() == []
    assert len(await office.questions()) == 1


async def test_a_label_of_the_policy_says_which_repository_is_meant(office: Office) -> None:
    office.policy = policy(web={"default_for": ["fake:label:needs-care"]})
    await hear(office, "fix it", title="Fix it", topics=("fake:label:Needs Care",))
    task = await office.task()
    assert (task.repo, task.repo_reason) == ("acme/web", "the default of fake:label:Needs Care")


@pytest.mark.parametrize("state", [TaskState.QUEUED, TaskState.RUNNING])
async def test_a_ticket_that_is_withdrawn_stops_whoever_did_it(
    office: Office, state: TaskState
) -> None:
    await ticket(office)
    await office.put(state)
    await hear(office, "", happening="withdrawn", author="fake:stranger")
    stopped = {TaskState.QUEUED: TaskState.STOPPED, TaskState.RUNNING: TaskState.STOPPING}
    assert (await office.task()).state is stopped[state]


async def test_a_withdrawal_of_nothing_is_nothing(office: Office) -> None:
    await hear(office, "", happening="withdrawn")
    assert await office.inbox_states() == ["ignored"]
    assert office.channel.posted == []


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (TaskState.QUEUED, TaskState.STOPPED),
        (TaskState.RUNNING, TaskState.STOPPING),
        (TaskState.PUBLISHING, TaskState.PUBLISHING),
        (TaskState.SUCCEEDED, TaskState.SUCCEEDED),
    ],
)
async def test_where_the_bot_is_taken_out_all_work_stops(
    office: Office, state: TaskState, after: TaskState
) -> None:
    await ticket(office)
    await office.put(state)
    nowhere = HERE.model_copy(update={"place": "", "thread": ""})
    elsewhere = nowhere.model_copy(update={"team": "another"})
    await hear(office, "", happening="gone", conversation=elsewhere, addressed=False)
    assert (await office.task()).state is state
    await hear(office, "", happening="gone", conversation=nowhere, addressed=False)
    assert (await office.task()).state is after
    assert set(await stopped_destinations(office.store)) == {"fake:T0", "fake:another"}
    await hear(office, "hello again")
    assert set(await stopped_destinations(office.store)) == {"fake:another"}


async def test_a_label_starts_work_only_where_the_policy_says_so(office: Office) -> None:
    label: dict[str, Any] = {**TICKET, "happening": "triggered", "topics": ("fake:label:Errand",)}
    await hear(office, "acme/web fix it", addressed=False, **label)
    assert await office.tasks() == []
    office.policy = policy(triggers=["fake:label:errand"])
    for _ in range(2):
        await hear(office, "acme/web fix it", addressed=False, **label)
    assert [t.title for t in await office.tasks()] == ["Login is flaky"]


async def test_a_label_set_by_somebody_who_may_not_start_is_refused(office: Office) -> None:
    office.policy = policy(triggers=["fake:label:errand"])
    label: dict[str, Any] = {**TICKET, "happening": "triggered", "topics": ("fake:label:errand",)}
    await hear(office, "repo=acme/api fix it", author="fake:lee", **label)
    assert await office.tasks() == []
    assert (await office.notices())[0].startswith("Refused:")


async def test_a_ticket_has_one_errand_at_a_time(office: Office) -> None:
    await ticket(office)
    await ticket(office, thread="9.0")
    assert len(await office.tasks()) == 1
    await office.send()
    assert [r.kind for r in office.channel.replies(ELSEWHERE)] == ["notice", "card"]
    await hear(office, "use the mirror", thread="9.0")
    assert [c.text for c in await office.open_commands()] == ["use the mirror"]


async def test_a_ticket_that_is_delegated_again_goes_on_with_its_branch(office: Office) -> None:
    await ticket(office)
    await office.put(TaskState.SUCCEEDED, pull_url="https://example.com/1")
    await ticket(office, thread="9.0")
    task = await office.task()
    assert (task.state, task.round, task.branch) == (TaskState.QUEUED, 2, TICKET["branch"])
    assert task.conversation.thread == "9.0"


@pytest.mark.parametrize(
    "branch", ["main", "", "--upload-pack=x/y", "a/../b", "a/b.lock", "a/b c", "/a/b", "a/b;c"]
)
async def test_a_branch_that_we_would_not_push_is_replaced_by_our_own(
    office: Office, branch: str
) -> None:
    await ticket(office, branch=branch)
    task = await office.task()
    assert task.branch == f"errand/{task.id}-login-is-flaky"


async def test_a_ticket_waits_for_those_that_block_it_and_starts_by_itself(office: Office) -> None:
    await ticket(office, waits_for=("FAKE-1", "FAKE-2"))
    [card] = await office.cards()
    assert card.doing == "waits for FAKE-1, FAKE-2"
    vigil = office.vigil
    office.channel.waits = ("FAKE-2",)
    assert await vigil.release() == 0
    assert (await office.task()).waits_for == ("FAKE-2",)
    office.channel.waits = ()
    assert await vigil.release() == 0, "it was asked a moment ago"
    office.clock.forward(ASK_AGAIN.total_seconds())
    office.channel.fail(AWAY)
    assert await vigil.release() == 0
    office.clock.forward(ASK_AGAIN.total_seconds())
    assert await vigil.release() == 1
    assert (await office.task()).waits_for == ()
    assert await office.notices() == ["FAKE-2 is done: this can start now."]


async def test_what_waits_for_others_does_not_age_in_the_queue(office: Office) -> None:
    await ticket(office, waits_for=("FAKE-1",))
    office.clock.forward(86_400)
    async with office.store.read() as conn:
        seen = await figures.look(conn)
    assert (seen.held, seen.queued_since) == (1, None)
    office.channel.waits = ()
    await office.vigil.release()
    async with office.store.read() as conn:
        seen = await figures.look(conn)
    assert (seen.held, seen.queued_since) == (0, office.clock.now())


async def test_a_waiting_ticket_can_be_stopped(office: Office) -> None:
    await ticket(office, waits_for=("FAKE-1",))
    await hear(office, "stop")
    office.channel.waits = ()
    await office.vigil.release()
    assert (await office.task()).state is TaskState.STOPPED


async def test_live_work_that_says_nothing_shows_its_card_again(office: Office) -> None:
    office.channel.silence_seconds = 100
    await office.hear("acme/web fix it")
    await office.put(TaskState.RUNNING)
    await office.send()
    assert await office.vigil.break_silence() == 0
    office.clock.forward(101)
    assert await office.vigil.break_silence() == 1
    await office.send()
    assert await office.vigil.break_silence() == 0
    await office.put(TaskState.SUCCEEDED)
    office.clock.forward(101)
    assert await office.vigil.break_silence() == 0


async def test_a_task_is_shown_where_the_policy_wants_it_too(office: Office) -> None:
    office.policy = policy(web={"follow": ["other:C0TEAM", "fake:C0WEB"]})
    await ticket(office)
    await office.send()
    [(conversation, opening)] = office.elsewhere.openings.values()
    assert (conversation.place, opening.title) == ("C0TEAM", "Login is flaky")
    assert opening.url == (await office.task()).page
    assert [r.kind for r in office.elsewhere.replies(conversation)] == ["card"]


async def test_both_places_can_steer_and_stop_and_hear_the_end(office: Office) -> None:
    office.policy = policy(
        web={"follow": ["other:C0TEAM"]},
        rules=[
            {
                "who": ["*"],
                "where": ["*"],
                "repos": ["*"],
                "agents": ["*"],
                "may": ["start", "steer", "stop"],
            }
        ],
    )
    await ticket(office)
    await office.put(TaskState.RUNNING)
    await office.send()
    [(there, _)] = office.elsewhere.openings.values()
    inbound = office.inbound("use the mirror").model_copy(update={"conversation": there})
    await office.intake.receive(inbound)
    await office.desk.work_off()
    assert [c.text for c in await office.open_commands()] == ["use the mirror"]
    await office.put(TaskState.SUCCEEDED)
    async with office.store.begin() as tx:
        word = Final(outcome="unchanged", text="Nothing.")
        await end_round(tx, (await office.task()).id, word, now=office.clock.now())
    await office.send()
    for channel in (office.channel, office.elsewhere):
        assert [r for r in channel.replies() if r.kind == "final"] == [word]


async def test_a_place_that_cannot_be_opened_is_said(office: Office) -> None:
    office.policy = policy(web={"follow": ["other:C0GONE"]})
    office.elsewhere.fail(RejectedError("other", "channel_not_found"))
    await ticket(office)
    await office.send()
    assert "other:C0GONE" in (await office.notices())[0]


async def test_what_is_opened_twice_is_followed_once(office: Office) -> None:
    office.policy = policy(web={"follow": ["other:C0TEAM"]})
    office.elsewhere.fail(AWAY, after=True)
    await ticket(office)
    for _ in range(3):
        await office.send()
        office.clock.forward(CALL_SECONDS)
    assert len(office.elsewhere.openings) == 1
    assert [r.kind for r in office.elsewhere.replies()] == ["card"]


async def test_a_request_that_names_a_ticket_is_shown_on_it(office: Office) -> None:
    await office.hear("acme/web fix FAKE-12 please")
    await office.send()
    [(conversation, _)] = office.elsewhere.openings.values()
    assert (conversation.place, conversation.thread) == ("FAKE", "FAKE-12")


async def test_a_ticket_is_made_of_an_errand_on_request(office: Office) -> None:
    await office.hear("acme/web fix it")
    await office.hear("create issue")
    assert "in which team" in (await office.notices())[0]
    office.policy = policy(web={"default_for": ["fake:C0WEB", "other:label:x", "other:OPS"]})
    await office.hear("create an issue")
    await office.hear("create ticket in eng")
    await office.send()
    places = [conversation.place for conversation, _ in office.elsewhere.openings.values()]
    assert places == ["OPS", "ENG"]
    assert await office.open_commands() == []


async def test_a_card_has_the_address_of_its_page(office: Office) -> None:
    await office.hear("acme/web fix it")
    [card] = await office.cards()
    assert card.url.startswith("http://127.0.0.1:8400/tasks/")
    assert await office.marks() == {Mark.SEEN}
    assert HERE.thread == "1.0"
