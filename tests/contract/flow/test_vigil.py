"""What looks after all that waits: one ticket, or one service, that is at fault keeps back none of the others."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs
from typing_extensions import override

from bot.said import show_card
from bot.states import TaskState
from bot.store import runs, tasks
from bot.store.rows import TaskRow
from bot.vigil import ASK_AGAIN, PAGE
from integrations.channel import Card, Conversation
from integrations.testing import FakeChannel
from tests.contract.flow.office import Office
from tests.support.builders import a_conversation
from tests.support.loops import running
from tests.support.site import until
from tests.support.store import a_run, a_task


class FaultyTracker(FakeChannel):
    """It has a bug that only the ticket `broken` meets, never answers for workspace `silent`."""

    @override
    async def blockers(self, conversation: Conversation) -> tuple[str, ...]:
        self.calls.append(conversation.thread)
        if conversation.thread == "broken":
            raise AttributeError("a bug")
        if conversation.team == "silent":
            await asyncio.Event().wait()
        return self.waits


async def waiting(office: Office, n: int, **where: str) -> TaskRow:
    """A task that waits for another ticket."""
    there = a_conversation(**{"thread": f"{n}.0", **where})
    return await a_row(office, n, conversation=there, waits_for=("FAKE-9",))


async def a_row(office: Office, n: int, **values: Any) -> TaskRow:
    task = a_task(n, **{"conversation": a_conversation(thread=f"{n}.0"), "fence": 1, **values})
    async with office.store.begin() as tx:
        await tasks.insert(tx, task)
        await runs.insert(tx, a_run(task.id, started_at=office.clock.now()))
    return task


async def held(office: Office) -> set[str]:
    async with office.store.read() as conn:
        return {task.conversation.thread for task in await tasks.waiting(conn, limit=10 * PAGE)}


async def shown(office: Office) -> set[str]:
    """Threads in which a card stands."""
    await office.send()
    return {p.conversation.thread for p in office.channel.posted if isinstance(p.reply, Card)}


async def test_a_ticket_that_breaks_keeps_back_no_other_and_is_told_of(office: Office) -> None:
    office.channel = FaultyTracker()
    broken = await waiting(office, 1, thread="broken")
    await waiting(office, 2)
    with capture_logs() as logs:
        assert await office.vigil.release() == 1
    assert await held(office) == {"broken"}
    [line] = [line for line in logs if line["event"] == "vigil_broke"]
    assert (line["log_level"], line["task"]) == ("error", broken.id)


async def test_a_task_that_the_database_refuses_to_free_keeps_back_nothing_else(
    office: Office,
) -> None:
    await waiting(office, 1)
    vigil = office.vigil
    async with office.refusing("task", "UPDATE"):
        assert await vigil.release() == 0
    office.clock.forward(ASK_AGAIN.total_seconds())
    assert await vigil.release() == 1


async def test_a_workspace_that_hangs_is_asked_once_at_a_time_and_holds_up_no_other(
    office: Office,
) -> None:
    office.channel = tracker = FaultyTracker()
    for n in (1, 2):
        await waiting(office, n, team="silent")
    await waiting(office, 3)
    vigil = office.vigil
    vigil.call_seconds = 0.05
    assert await vigil.release() == 1
    assert tracker.calls == ["1.0", "3.0"]
    await vigil.release()
    assert tracker.calls == ["1.0", "3.0", "2.0"]


class SlowTracker(FakeChannel):
    """Something happens before it answers."""

    meanwhile: Callable[[], Awaitable[object]]

    @override
    async def blockers(self, conversation: Conversation) -> tuple[str, ...]:
        await self.meanwhile()
        return await super().blockers(conversation)


@pytest.mark.parametrize("waits", [(), ("FAKE-8",)])
async def test_a_task_that_ended_while_the_tracker_was_asked_is_left_as_it_is(
    office: Office, waits: tuple[str, ...]
) -> None:
    office.channel = tracker = SlowTracker(waits=waits)
    await waiting(office, 1)
    tracker.meanwhile = partial(office.put, TaskState.STOPPED)
    ended = (await office.task()).model_copy(update={"state": TaskState.STOPPED})
    assert await office.vigil.release() == 0
    assert await office.task() == ended


async def test_each_of_many_that_wait_has_its_turn(office: Office) -> None:
    office.channel = tracker = FaultyTracker(waits=("FAKE-9",))
    there = [a_conversation(thread=str(n)) for n in range(2 * PAGE + 1)]
    async with office.store.begin() as tx:
        for n, where in enumerate(there):
            await tasks.insert(tx, a_task(n, conversation=where, waits_for=("FAKE-9",)))
    vigil = office.vigil
    for _ in range(4):
        await vigil.release()
    threads = [where.thread for where in there]
    assert tracker.calls == threads
    office.clock.forward(ASK_AGAIN.total_seconds())
    for _ in range(2):
        await vigil.release()
    assert tracker.calls == threads + threads[: 2 * PAGE]


async def put_odd_run(office: Office, task: TaskRow) -> None:
    """Whoever shows the task's card meets an error."""
    async with office.store.begin() as tx:
        await runs.update(tx, task.id, 1, view={"said": 7})


async def put_odd_row(office: Office, task: TaskRow) -> None:
    """Whoever looks how long the task's card has been quiet meets an error."""
    async with office.store.begin() as tx:
        await tx.execute(text("UPDATE outbox SET tries = 'many' WHERE task = :id"), {"id": task.id})


@pytest.mark.parametrize("put_odd", [put_odd_run, put_odd_row])
async def test_a_card_that_breaks_keeps_back_no_other(
    office: Office, put_odd: Callable[[Office, TaskRow], Awaitable[None]]
) -> None:
    office.channel.silence_seconds = 0
    rows = [await a_row(office, n, state=TaskState.RUNNING) for n in (1, 2)]
    async with office.store.begin() as tx:
        for task in rows:
            await show_card(tx, task, now=office.clock.now())
    await office.send()
    await put_odd(office, rows[0])
    office.clock.forward(60)
    await office.vigil.break_silence()
    await office.send()
    assert [len(posted.forms) for posted in office.channel.posted] == [1, 2]


async def test_of_places_that_are_told_together_only_the_one_that_breaks_is_left_out(
    office: Office,
) -> None:
    rows = [await a_row(office, n) for n in (1, 2, 3)]
    await put_odd_run(office, rows[1])
    with capture_logs() as logs:
        await office.vigil.tell_the_line()
    assert await shown(office) == {"1.0", "3.0"}
    assert [line["task"] for line in logs if line["event"] == "vigil_broke"] == [rows[1].id]


async def test_a_duty_that_breaks_keeps_back_no_other_duty(office: Office) -> None:
    """A row that can't be read breaks every question for what waits for others."""
    unreadable = await waiting(office, 1)
    await a_row(office, 2)
    async with office.store.begin() as tx:
        await tx.execute(text("UPDATE task SET round = 'x' WHERE id = :id"), {"id": unreadable.id})
    async with running(office.vigil.run()):
        await until(office.spoken._event.is_set)
    assert await shown(office) == {"2.0"}
