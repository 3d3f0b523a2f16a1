"""What a run tells becomes truth: once, in order, and only for the current fence."""

import asyncio

import pytest
from redis.asyncio import Redis
from sqlalchemy import text as sql
from typing_extensions import override

from bot.bus import Bus
from bot.states import MAX_ATTEMPTS, TaskState
from bot.store.engine import Store
from bot.store.errors import StoreError, StoreUnavailableError
from integrations.channel import Mark, StepState
from runner import keys
from runner.lease import Standing
from runner.protocol import (
    Brokered,
    CheckResult,
    CommandSeen,
    Egress,
    Finished,
    Plan,
    PlanEntry,
    Remark,
    RunKey,
    Said,
    StepStatus,
    ToolCall,
    Traffic,
)
from tests.contract.flow.office import Office
from tests.contract.flow.yard import Yard, done
from tests.support.site import until
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.redis


def failed(**values: object) -> Finished:
    return Finished.model_validate({"outcome": "failed", "reason": "It broke.", **values})


async def test_a_started_run_is_running_and_recorded(yard: Yard) -> None:
    await yard.running()
    assert (await yard.office.task()).state is TaskState.RUNNING
    [row] = await yard.office.runs()
    assert (row.host, row.agent, row.image_digest) == ("h1", "script", "sha256:1")
    assert row.started_at is not None


async def test_events_bring_the_card_up_to_date(yard: Yard) -> None:
    run = await yard.running()
    plan = Plan(entries=(PlanEntry(title="look", status=StepStatus.RUNNING),))
    await yard.tell(run, plan, ToolCall(id="1", title="grep", status=StepStatus.RUNNING))
    [card] = await yard.office.cards()
    assert (card.state, card.doing, card.agent) == ("working", "grep", "script")
    assert [(s.title, s.state) for s in card.steps] == [("look", StepState.RUNNING)]


async def test_events_count_in_the_order_in_which_they_were_told(yard: Yard) -> None:
    run = await yard.running()
    await yard.tell(run, *(Said(text=f"word {n}") for n in range(5)))
    [row] = await yard.office.runs()
    assert row.view["said"] == "word 4"


async def test_a_repeated_event_counts_once(yard: Yard) -> None:
    run = await yard.running()
    record = yard.host.record(
        run, Egress(verdict="deny", host="x.example", port=443, rule="", reason=""), seq=50
    )
    for _ in range(3):
        await yard.redis.xadd(keys.EVENTS, {"r": record.model_dump_json()})
    await yard.apply()
    assert len(await yard.office.record("egress")) == 1


async def test_an_end_told_twice_is_one_last_word(yard: Yard) -> None:
    run = await yard.running()
    await yard.tell(run, failed(), failed())
    await yard.tell(run, failed())
    assert len(await yard.office.finals()) == 1


async def test_applied_events_leave_the_stream(yard: Yard) -> None:
    run = await yard.running()
    await yard.tell(run, Said(text="hello"))
    assert await yard.redis.xlen(keys.EVENTS) == 0
    assert (await yard.in_redis(run.task))["ack:1:worker"] == "1"


async def test_events_of_an_old_fence_are_only_recorded(yard: Yard) -> None:
    first = await yard.running()
    await yard.lose(first)
    await yard.again()
    await yard.tell(first, Said(text="from beyond"), done())
    task = await yard.office.task()
    assert (task.state, task.fence) == (TaskState.RUNNING, 2)
    [stale] = await yard.office.record("stale_events")
    assert stale.detail == {"fence": 1, "events": 2}
    assert all(row.view["said"] == "" for row in await yard.office.runs())


async def test_a_lost_runs_late_end_changes_nothing(yard: Yard) -> None:
    run = await yard.running()
    await yard.lose(run)
    await yard.tell(run, done())
    assert (await yard.office.task()).state is TaskState.QUEUED


async def test_what_was_not_committed_is_read_again(yard: Yard) -> None:
    run = await yard.running()
    await yard.host.tell(run, done())
    store, yard.applier.store = yard.applier.store, Store("sqlite:////dev/null/errand.db")
    with pytest.raises(StoreUnavailableError):
        await yard.applier.step(pending=False)
    assert (await yard.office.task()).state is TaskState.RUNNING
    yard.applier.store = store
    await yard.applier.step(pending=True)
    assert (await yard.office.task()).state is TaskState.PUBLISHING


async def test_what_a_dead_applier_had_taken_is_taken_over(
    yard: Yard, valkey: ValkeyServer
) -> None:
    run = await yard.running()
    await yard.host.tell(run, done())
    dead = await Bus.open(valkey.url)
    assert len(await dead.events(count=10, block_ms=10, pending=False)) == 1
    await dead.close()
    assert await yard.applier.step(pending=False) == 0
    assert await yard.applier.step(pending=True) == 1
    assert (await yard.office.task()).state is TaskState.PUBLISHING


@pytest.mark.parametrize(("name", "value"), [("r", "no json"), ("r", '{"run": 1}'), ("x", "y")])
async def test_an_unreadable_entry_blocks_nothing(yard: Yard, name: str, value: str) -> None:
    run = await yard.running()
    await yard.redis.xadd(keys.EVENTS, {name: value})
    await yard.tell(run, done())
    assert (await yard.office.task()).state is TaskState.PUBLISHING


async def test_a_run_that_sql_does_not_know_is_disowned_and_blocks_nothing(yard: Yard) -> None:
    run = await yard.running()
    await yard.tell(RunKey(task="01nobody", fence=1), Said(text="hello"))
    await yard.tell(run, done())
    assert (await yard.office.task()).state is TaskState.PUBLISHING
    assert await yard.host.claim(RunKey(task="01nobody", fence=1)) is Standing.DISOWNED
    assert not await yard.redis.xlen(keys.EVENTS)


async def test_a_later_run_than_sql_knows_is_disowned_and_the_known_one_is_not(yard: Yard) -> None:
    run = await yard.running()
    later = RunKey(task=run.task, fence=run.fence + 1)
    await yard.tell(later, Said(text="from after the backup"))
    assert await yard.host.claim(later) is Standing.DISOWNED
    assert await yard.host.claim(run) is Standing.LIVE
    assert (await yard.office.task()).fence == run.fence


async def test_changes_that_were_handed_in_are_published(yard: Yard) -> None:
    run = await yard.running()
    await yard.tell(run, done())
    assert (await yard.office.task()).state is TaskState.PUBLISHING
    [card] = await yard.office.cards()
    assert card.state == "publishing"
    assert await yard.office.finals() == []


async def test_no_change_succeeds_without_a_pull_request(yard: Yard) -> None:
    run = await yard.running()
    await yard.tell(run, done(changed=False, checks=[CheckResult(command="make", passed=True)]))
    assert (await yard.office.task()).state is TaskState.SUCCEEDED
    [word] = await yard.office.finals()
    assert (word.outcome, word.pull_url, len(word.checks)) == ("unchanged", "", 1)
    assert await yard.office.marks() == {Mark.DONE}


async def test_a_failure_is_said_with_its_reason_and_tail(yard: Yard) -> None:
    run = await yard.running()
    await yard.tell(run, failed(tail="line 3"))
    task = await yard.office.task()
    assert (task.state, task.reason) == (TaskState.FAILED, "It broke.")
    [word] = await yard.office.finals()
    assert (word.outcome, word.text, word.tail) == ("failed", "It broke.", "line 3")
    assert await yard.office.marks() == {Mark.FAILED}


async def test_time_that_ran_out_is_said(yard: Yard) -> None:
    run = await yard.running()
    await yard.tell(run, Finished(outcome="expired"))
    assert (await yard.office.task()).state is TaskState.EXPIRED
    [word] = await yard.office.finals()
    assert word.outcome == "failed"


async def test_a_fault_of_ours_is_tried_again(yard: Yard) -> None:
    run = await yard.running()
    await yard.tell(run, failed(infrastructure=True))
    assert (await yard.office.task()).state is TaskState.QUEUED
    assert await yard.office.finals() == []
    assert (await yard.again()).fence == 2


async def test_a_fault_of_ours_fails_after_so_many_attempts(yard: Yard) -> None:
    run = await yard.running()
    for _ in range(MAX_ATTEMPTS - 1):
        await yard.tell(run, failed(infrastructure=True))
        run = await yard.again()
    await yard.tell(run, failed(infrastructure=True))
    assert (await yard.office.task()).state is TaskState.FAILED
    assert len(await yard.office.finals()) == 1


@pytest.mark.parametrize("finished", [done(outcome="stopped"), done()])
async def test_what_a_stopped_run_has_handed_in_is_kept(yard: Yard, finished: Finished) -> None:
    """Also where the run had not heard of the stop."""
    run = await yard.running()
    await yard.office.hear("stop")
    await yard.tell(run, finished)
    assert (await yard.office.task()).state is TaskState.KEEPING
    assert await yard.office.finals() == []
    [card] = await yard.office.cards()
    assert (card.state, card.live) == ("stopping", True)


async def test_why_nothing_of_a_stopped_run_is_kept_is_said(yard: Yard) -> None:
    run = await yard.running()
    await yard.office.hear("stop")
    await yard.tell(run, Finished(outcome="stopped", reason="It was refused: too large."))
    [word] = await yard.office.finals()
    assert word.text.startswith("It was refused: too large.\nNothing was published")


@pytest.mark.parametrize("finished", [done(changed=False), failed(), failed(infrastructure=True)])
async def test_whatever_the_end_of_a_stopped_run_it_is_stopped(
    yard: Yard, finished: Finished
) -> None:
    run = await yard.running()
    await yard.office.hear("stop")
    await yard.tell(run, finished)
    assert (await yard.office.task()).state is TaskState.STOPPED
    [word] = await yard.office.finals()
    assert word.outcome == "stopped"
    assert await yard.office.marks() == {Mark.STOPPED}


async def test_a_run_that_stopped_unasked_is_stopped(yard: Yard) -> None:
    run = await yard.running()
    await yard.tell(run, Finished(outcome="stopped"))
    assert (await yard.office.task()).state is TaskState.STOPPED
    assert await yard.office.marks() == {Mark.STOPPED}


@pytest.mark.parametrize(
    ("finished", "state"),
    [
        (done(), TaskState.PUBLISHING),
        (done(changed=False), TaskState.SUCCEEDED),
        (failed(), TaskState.FAILED),
        (failed(infrastructure=True), TaskState.QUEUED),
    ],
)
async def test_an_end_counts_though_the_beginning_was_lost(
    yard: Yard, finished: Finished, state: TaskState
) -> None:
    await yard.starting()
    [run] = await yard.host.take()
    await yard.tell(run, finished)
    assert (await yard.office.task()).state is state


async def test_an_applied_end_releases_the_host(yard: Yard) -> None:
    run = await yard.running()
    assert await yard.host.claim(run) is Standing.LIVE
    await yard.tell(run, done())
    assert await yard.host.claim(run) is Standing.DONE


class QuickBus(Bus):
    """A bus whose applier is slow: the dispatcher comes first as soon as there is something for it."""

    yard: Yard | None = None

    @override
    async def acknowledge(self, run: RunKey, source: str, seq: int) -> None:
        if self.yard is not None:
            await self.yard.dispatcher.dispatch()
        await super().acknowledge(run, source, seq)


async def test_releasing_a_run_never_ends_the_next_one(
    office: Office, redis: Redis, bus: Bus
) -> None:
    quick = QuickBus(bus.redis)
    yard = Yard.of(office, quick, redis)
    run = await yard.running()
    quick.yard = yard
    await yard.tell(run, failed(infrastructure=True))
    task = await office.task()
    assert (task.state, task.fence) == (TaskState.STARTING, 2)
    assert await yard.host.take() == [RunKey(task=task.id, fence=2)]


async def test_the_publisher_is_woken_after_commit_only(yard: Yard) -> None:
    run = await yard.running()
    yard.office.finished._event.clear()
    record = yard.host.record(run, done())
    async with yard.office.refusing("audit"):
        with pytest.raises(StoreError):
            await yard.applier.apply(run, [record])
        assert not yard.office.finished._event.is_set()
    await yard.applier.apply(run, [record])
    assert yard.office.finished._event.is_set()


async def test_what_the_gateway_decided_is_on_record(yard: Yard) -> None:
    run = await yard.running()
    denied = Egress(verdict="deny", host="x.example", port=443, rule="default", reason="not listed")
    await yard.tell(run, denied)
    [row] = await yard.office.record("egress")
    assert (row.actor, row.decision, row.detail["host"]) == ("gateway", "deny", "x.example")
    [card] = await yard.office.cards()
    assert "x.example" in card.doing


async def test_what_the_broker_was_asked_is_on_record_once(yard: Yard) -> None:
    run = await yard.running()
    asked = Brokered(tool="gh", argv=("pr", "merge"), verdict="deny", reason="not open")
    record = yard.host.record(run, asked, seq=7)
    for _ in range(2):
        await yard.applier.apply(run, [record])
    [row] = await yard.office.record("command")
    assert (row.actor, row.decision, row.task) == ("broker", "deny", run.task)
    assert (row.detail["tool"], row.detail["argv"]) == ("gh", ["pr", "merge"])


async def test_what_went_through_and_what_was_remarked_is_on_record(yard: Yard) -> None:
    run = await yard.running()
    await yard.tell(
        run,
        Traffic(
            host="x.example", port=443, rule="egress:x.example", sent=5, received=7, requests=2
        ),
        Remark(text="The profile node opens nothing."),
    )
    [traffic] = await yard.office.record("traffic")
    assert (traffic.detail["sent"], traffic.detail["received"], traffic.detail["requests"]) == (
        5,
        7,
        2,
    )
    [remark] = await yard.office.record("remark")
    assert remark.detail["text"] == "The profile node opens nothing."


async def steered(yard: Yard, *texts: str) -> RunKey:
    run = await yard.running()
    for text in texts:
        await yard.office.hear(text, addressed=False)
    return run


async def test_what_no_run_has_seen_becomes_the_next_round(yard: Yard) -> None:
    run = await steered(yard, "also the docs", "and the tests")
    await yard.tell(run, done(changed=False))
    task = await yard.office.task()
    assert (task.state, task.round) == (TaskState.QUEUED, 2)
    assert task.prompt == "also the docs\n\nand the tests"
    assert len(await yard.office.finals()) == 1
    assert len(await yard.office.cards()) == 2
    assert await yard.office.marks() == {Mark.SEEN}


async def test_the_round_of_what_came_too_late_ends_with_a_word_of_its_own(yard: Yard) -> None:
    run = await steered(yard, "also the docs")
    await yard.tell(run, done(changed=False))
    await yard.tell(await yard.again(), done(changed=False))
    assert (await yard.office.task()).state is TaskState.SUCCEEDED
    assert len(await yard.office.finals()) == 2
    assert await yard.office.marks() == {Mark.DONE}


async def test_what_the_run_has_seen_starts_no_round(yard: Yard) -> None:
    run = await steered(yard, "also the docs")
    [command] = await yard.office.open_commands()
    await yard.tell(run, CommandSeen(command=command.id), done(changed=False))
    assert (await yard.office.task()).state is TaskState.SUCCEEDED


@pytest.mark.parametrize(
    "finished", [failed(), Finished(outcome="expired"), Finished(outcome="stopped")]
)
async def test_what_came_too_late_for_a_run_that_failed_is_said(
    yard: Yard, finished: Finished
) -> None:
    run = await steered(yard, "also the docs")
    await yard.office.notices()
    await yard.tell(run, finished)
    assert (await yard.office.task()).round == 1
    assert "also the docs" in (await yard.office.notices())[-1]


async def test_what_was_said_before_a_stop_is_said_back(yard: Yard) -> None:
    await yard.office.hear("acme/web fix it")
    await yard.office.hear("also the docs", addressed=False)
    await yard.office.hear("stop")
    assert (await yard.office.task()).state is TaskState.STOPPED
    assert "also the docs" in (await yard.office.notices())[-1]


async def test_the_loop_goes_on_after_redis_has_lost_its_data(yard: Yard) -> None:
    run = await yard.running()
    yard.office.finished._event.clear()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(yard.applier.run())
        await yard.redis.flushall()
        await yard.host.tell(run, done(changed=False))
        await until(yard.office.finished._event.is_set)
        running.cancel()
    assert (await yard.office.task()).state is TaskState.SUCCEEDED


BACKLOG = 100_000
"""Events of a run that waited while `serve` was down."""


@pytest.mark.timeout(300)
async def test_a_hundred_thousand_events_that_waited_are_applied_without_a_gap(yard: Yard) -> None:
    run = await yard.running()
    told = [yard.host.record(run, Said(text="x"), seq=n + 1) for n in range(BACKLOG)]
    for start in range(0, BACKLOG, 1000):
        pipe = yard.redis.pipeline(transaction=False)
        for record in told[start : start + 1000]:
            pipe.xadd(keys.EVENTS, {"r": record.model_dump_json()})
        await pipe.execute()
    await yard.tell(run, done(changed=False))
    async with yard.office.store.read() as conn:
        query = "SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM event WHERE source = 'agent'"
        [row] = await conn.execute(sql(query))
    assert tuple(row) == (BACKLOG, BACKLOG, 1, BACKLOG)
    assert (await yard.office.task()).state is TaskState.SUCCEEDED
    assert (await yard.in_redis(run.task))["ack:1:agent"] == str(BACKLOG)
