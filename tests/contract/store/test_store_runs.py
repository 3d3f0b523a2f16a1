"""Runs and their events: each stored once, told in order."""

from bot.store import commands, cursors, events, runs, tasks
from bot.store.engine import Store
from runner.protocol import Finished, Plan, PlanEntry, RunKey, StepStatus
from tests.support.store import NOW, a_command, a_run, a_task, an_event, at

TASK = a_task().id


async def test_a_run_is_stored_whole_and_once(store: Store) -> None:
    row = a_run(TASK, host="host-1", started_at=at(1), view={"steps": ["a", {"b": None}]})
    async with store.begin() as tx:
        await tasks.insert(tx, a_task())
        assert await runs.insert(tx, row)
        assert not await runs.insert(tx, a_run(TASK, host="host-2"))
        assert await runs.get(tx, TASK, 1) == row
        assert await runs.get(tx, TASK, 2) is None


async def test_runs_of_a_task_come_oldest_first(store: Store) -> None:
    async with store.begin() as tx:
        await tasks.insert(tx, a_task())
        for fence in (2, 10, 1):
            await runs.insert(tx, a_run(TASK, fence))
        assert [row.fence for row in await runs.of_task(tx, TASK)] == [1, 2, 10]
        assert await runs.of_task(tx, "another") == []


async def test_an_update_changes_one_run(store: Store) -> None:
    async with store.begin() as tx:
        await tasks.insert(tx, a_task())
        await runs.insert(tx, a_run(TASK, 1))
        await runs.insert(tx, a_run(TASK, 2))
        assert await runs.update(tx, TASK, 2, outcome="done", ended_at=at(5), view={"n": 1})
        changed = a_run(TASK, 2, outcome="done", ended_at=at(5), view={"n": 1})
        assert await runs.of_task(tx, TASK) == [a_run(TASK, 1), changed]
        assert not await runs.update(tx, TASK, 3, outcome="done")


async def test_an_event_is_stored_whole_and_once(store: Store) -> None:
    plan = Plan(entries=(PlanEntry(title="a", status=StepStatus.DONE),))
    record = an_event(TASK, 1, event=plan)
    async with store.begin() as tx:
        await tasks.insert(tx, a_task())
        assert await events.insert(tx, record, now=at(30))
        assert not await events.insert(
            tx, an_event(TASK, 1, event=Finished(outcome="done")), now=NOW
        )
        (row,) = await events.of_task(tx, TASK)
    assert (row.record, row.stored_at) == (record, at(30))


async def test_many_events_say_for_each_whether_it_is_new(store: Store) -> None:
    async with store.begin() as tx:
        await tasks.insert(tx, a_task())
        await events.insert(tx, an_event(TASK, 1), now=NOW)
        batch = [an_event(TASK, 1), an_event(TASK, 2), an_event(TASK, 2, source="worker")]
        batch += [an_event(TASK, 2), an_event(TASK, 2, run=RunKey(task=TASK, fence=2))]
        answers = [False, True, True, False, True]
        assert await events.insert_many(tx, batch, now=NOW) == answers
        assert await events.insert_many(tx, batch, now=NOW) == [False] * 5
        assert await events.insert_many(tx, [], now=NOW) == []


async def test_events_come_run_by_run_in_the_order_of_time(store: Store) -> None:
    second = RunKey(task=TASK, fence=2)
    told = [
        an_event(TASK, 7, at=at(1)),
        an_event(TASK, 1, at=at(2)),
        an_event(TASK, 2, at=at(2)),
        an_event(TASK, 1, at=at(2), source="worker"),
        an_event(TASK, 0, at=at(0), run=second),
    ]
    async with store.begin() as tx:
        await tasks.insert(tx, a_task())
        await events.insert_many(tx, told[::-1], now=NOW)
        assert [row.record for row in await events.of_task(tx, TASK)] == told
        assert [row.record for row in await events.of_task(tx, TASK, fence=2)] == told[4:]


async def test_a_command_is_stored_once_and_open_until_seen(store: Store) -> None:
    async with store.begin() as tx:
        await tasks.insert(tx, a_task())
        assert await commands.insert(tx, a_command(1, TASK))
        assert not await commands.insert(tx, a_command(1, TASK, text="other"))
        assert await commands.open_for(tx, TASK) == [a_command(1, TASK)]
        await commands.mark_sent(tx, ["command-1"], at(3))
        sent = a_command(1, TASK, state="sent", sent_at=at(3))
        assert await commands.open_for(tx, TASK) == [sent]
        await commands.finish(tx, "command-1")
        await commands.mark_sent(tx, ["command-1"], at(4))
        await commands.finish(tx, "unknown")
        assert await commands.open_for(tx, TASK) == []
        assert not await commands.insert(tx, a_command(1, TASK))


async def test_commands_keep_their_order_also_within_one_moment(store: Store) -> None:
    async with store.begin() as tx:
        await tasks.insert(tx, a_task())
        for n in (3, 1, 2):
            await commands.insert(tx, a_command(n, TASK, fence=n % 2))
        assert [c.id[-1] for c in await commands.open_for(tx, TASK)] == ["3", "1", "2"]
        assert [c.id[-1] for c in await commands.open_for(tx, TASK, 1)] == ["3", "1"]


async def test_all_commands_of_a_task_can_be_finished_at_once(store: Store) -> None:
    async with store.begin() as tx:
        await tasks.insert(tx, a_task(1))
        await tasks.insert(tx, a_task(2))
        for n in (1, 2):
            await commands.insert(tx, a_command(n, TASK))
        await commands.insert(tx, a_command(3, a_task(2).id))
        await commands.finish_all(tx, TASK)
        assert await commands.open_for(tx, TASK) == []
        assert len(await commands.open_for(tx, a_task(2).id)) == 1


async def test_a_cursor_keeps_what_was_put_last(store: Store) -> None:
    async with store.begin() as tx:
        assert await cursors.get(tx, "slack") is None
        await cursors.put(tx, "slack", "1")
        await cursors.put(tx, "slack", "2")
        await cursors.put(tx, "github", "")
    async with store.read() as conn:
        assert await cursors.get(conn, "slack") == "2"
        assert await cursors.get(conn, "github") == ""
