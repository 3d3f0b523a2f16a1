"""From a queued row to a run, and what becomes of runs whose host falls silent."""

import asyncio
from typing import Any

import pytest
from arq.connections import RedisSettings, create_pool
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs
from typing_extensions import override

from bot.bus import Bus
from bot.dispatch import NAME_SECONDS
from bot.restored import note_restored
from bot.states import TaskState
from bot.store import commands
from bot.store.rows import CommandRow
from integrations.channel import Mark
from integrations.testing import FakeChannel
from policies.model import Limits, Policy
from runner import keys
from runner.lease import Standing
from runner.protocol import CommandSeen, HostOpening, RunKey, Said
from tests.contract.flow.office import Office
from tests.contract.flow.yard import GRACE, ScriptedHost, Yard, done
from tests.support.builders import NOW, POLICY
from tests.support.site import until
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.redis
ASK = "acme/web fix it"


def limited(**limits: Any) -> Policy:
    return POLICY.model_copy(update={"limits": Limits(**limits)})


async def states(office: Office) -> list[TaskState]:
    """Oldest first."""
    return [task.state for task in reversed(await office.tasks())]


async def test_a_dispatched_task_is_starting_and_its_launch_waits(yard: Yard) -> None:
    run = await yard.starting()
    task = await yard.office.task()
    assert (task.state, task.fence, task.attempts) == (TaskState.STARTING, 1, 1)
    assert await yard.bus.has_launch(run)
    assert await yard.in_redis(task.id) == {"fence": "1", "state": "live"}
    [row] = await yard.office.runs()
    assert (row.fence, row.round) == (1, 1)


async def test_a_task_is_dispatched_once(yard: Yard) -> None:
    await yard.starting()
    assert await yard.dispatcher.dispatch() == 0
    assert (await yard.office.task()).fence == 1


async def test_the_requester_is_named_as_people_know_them(yard: Yard) -> None:
    await yard.starting()
    assert (await yard.office.task()).requester_name == "Dana"


class ShyChannel(FakeChannel):
    """It never knows a name: `fake:odd` is a bug, `fake:cut` a broken line, and of the others it says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0

    @override
    async def name_of(self, person: str) -> str:
        if person == "fake:odd":
            raise AttributeError("a bug")
        if person == "fake:cut":
            raise ConnectionResetError
        began = asyncio.get_running_loop().time()
        try:
            await asyncio.Event().wait()
        finally:
            self.waited += asyncio.get_running_loop().time() - began
        return ""


async def test_all_launches_of_a_round_wait_for_names_together(yard: Yard) -> None:
    channel = ShyChannel()
    yard.dispatcher.channels = {"fake": channel}
    for n in range(3):
        await yard.office.hear(ASK, author=f"fake:{n}", thread=f"{n}.0")
    assert await yard.dispatcher.dispatch() == 3
    assert channel.waited < 2 * NAME_SECONDS


async def test_a_name_that_cannot_be_asked_for_holds_up_nothing(yard: Yard) -> None:
    yard.dispatcher.channels = {"fake": ShyChannel()}
    await yard.office.hear(ASK, author="fake:cut")
    assert await yard.dispatcher.dispatch() == 1
    assert (await yard.office.task()).requester_name == "cut"


async def test_a_bug_that_one_task_meets_holds_up_no_other(yard: Yard) -> None:
    yard.dispatcher.channels = {"fake": ShyChannel()}
    await yard.host.announce(free=0)  # room for one, ahead
    for n, author in enumerate(("fake:odd", "fake:dana")):
        await yard.office.hear(ASK, author=author, thread=f"{n}.0")
    with capture_logs() as logs:
        assert await yard.dispatcher.dispatch() == 1
    assert await states(yard.office) == [TaskState.QUEUED, TaskState.STARTING]
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["dispatch_broke"]


@pytest.mark.parametrize(
    ("limits", "authors"),
    [
        ({"tasks_per_person": 1}, ["fake:dana", "fake:dana"]),
        ({"tasks_per_repo": 1}, ["fake:dana", "fake:lee"]),
        ({"tasks": 1}, ["fake:dana", "fake:lee"]),
    ],
)
async def test_a_limit_holds_work_back_and_lets_it_go_later(
    office: Office, bus: Bus, redis: Redis, limits: dict[str, int], authors: list[str]
) -> None:
    office.policy = limited(**limits)
    yard = Yard.of(office, bus, redis)
    for n, author in enumerate(authors):
        await office.hear(ASK, author=author, thread=f"{n}.0")
    await yard.dispatcher.dispatch()
    assert await states(office) == [TaskState.STARTING, TaskState.QUEUED]
    [run] = await yard.host.take()
    await yard.tell(run, yard.host.started(), done(changed=False))
    await yard.dispatcher.dispatch()
    assert await states(office) == [TaskState.SUCCEEDED, TaskState.STARTING]


async def test_one_person_at_the_limit_holds_back_nobody_else(
    office: Office, bus: Bus, redis: Redis
) -> None:
    office.policy = limited(tasks_per_person=1)
    yard = Yard.of(office, bus, redis)
    for n, author in enumerate(["fake:dana", "fake:dana", "fake:lee"]):
        await office.hear(ASK, author=author, thread=f"{n}.0")
    await yard.dispatcher.dispatch()
    assert await states(office) == [TaskState.STARTING, TaskState.QUEUED, TaskState.STARTING]


async def test_a_crash_before_redis_was_told_starts_again_after_the_grace(yard: Yard) -> None:
    await yard.starting()
    await yard.redis.flushall()
    await yard.host.announce()
    await yard.wait_out_the_grace()
    assert (await yard.office.task()).state is TaskState.QUEUED
    await yard.dispatcher.dispatch()
    task = await yard.office.task()
    assert (task.fence, task.attempts) == (2, 1)
    assert await yard.host.take() == [RunKey(task=task.id, fence=2)]


async def test_nothing_is_lost_before_the_grace_is_over(yard: Yard) -> None:
    await yard.starting()
    await yard.redis.flushall()
    await yard.dispatcher.reconcile()
    yard.office.clock.forward(59)
    await yard.dispatcher.reconcile()
    assert (await yard.office.task()).state is TaskState.STARTING


async def test_a_launch_that_waits_for_a_host_is_not_lost(yard: Yard) -> None:
    await yard.starting()
    await yard.wait_out_the_grace()
    assert (await yard.office.task()).fence == 1


async def test_nothing_begins_while_redis_is_away(
    office: Office, redis: Redis, valkey: ValkeyServer
) -> None:
    impatient = Bus(await create_pool(RedisSettings.from_dsn(valkey.url)))
    yard = Yard.of(office, impatient, redis)
    await office.hear(ASK)
    await valkey.kill()
    with pytest.raises(RedisError):
        await yard.dispatcher.dispatch()
    assert (await office.task()).state is TaskState.QUEUED
    await impatient.close()


async def test_a_flushed_redis_is_told_again_and_the_run_goes_on(yard: Yard) -> None:
    run = await yard.running()
    await yard.redis.flushall()
    assert await yard.host.claim(run) is Standing.UNKNOWN
    await yard.dispatcher.reconcile()
    assert await yard.host.claim(run) is Standing.LIVE
    await yard.wait_out_the_grace()
    task = await yard.office.task()
    assert (task.state, task.fence) == (TaskState.RUNNING, 1)


async def test_a_run_that_ended_before_redis_was_flushed_is_still_released(yard: Yard) -> None:
    await yard.dispatcher.reconcile()
    run = await yard.running()
    await yard.tell(run, done())
    await yard.redis.flushall()
    assert await yard.host.claim(run) is Standing.UNKNOWN
    await yard.dispatcher.reconcile()
    assert await yard.host.claim(run) is Standing.DONE


async def test_a_lost_host_puts_the_task_in_the_queue_again(yard: Yard) -> None:
    run = await yard.running()
    await yard.lose(run)
    task = await yard.office.task()
    assert (task.state, task.attempts) == (TaskState.QUEUED, 1)
    [row] = await yard.office.runs()
    assert row.outcome == "lost"
    assert await yard.office.finals() == []


async def test_the_third_loss_fails_once_with_one_message(yard: Yard) -> None:
    await yard.lose(await yard.running())
    await yard.lose(await yard.again())
    await yard.lose(await yard.again())
    assert (await yard.office.task()).state is TaskState.FAILED
    await yard.wait_out_the_grace()
    [word] = await yard.office.finals()
    assert (word.outcome, "3 attempts" in word.text) == ("failed", True)
    assert await yard.office.marks() == {Mark.FAILED}


async def test_a_new_round_has_its_attempts_again(yard: Yard) -> None:
    for _ in range(3):
        run = await (yard.again() if await yard.office.tasks() else yard.running())
        await yard.lose(run)
    await yard.office.hear("retry")
    await yard.dispatcher.dispatch()
    task = await yard.office.task()
    assert (task.state, task.fence, task.attempts) == (TaskState.STARTING, 4, 1)


async def test_a_lost_run_that_was_being_stopped_is_stopped(yard: Yard) -> None:
    run = await yard.running()
    await yard.office.hear("stop")
    await yard.lose(run)
    assert (await yard.office.task()).state is TaskState.STOPPED
    [word] = await yard.office.finals()
    assert (word.outcome, "could not be kept" in word.text) == ("stopped", True)
    assert await yard.office.marks() == {Mark.STOPPED}


async def test_a_host_that_comes_back_is_told_that_its_run_is_over(yard: Yard) -> None:
    run = await yard.running()
    await yard.lose(run)
    assert await yard.host.claim(run) is Standing.DONE


async def test_a_host_that_comes_back_after_the_next_dispatch_is_stale(yard: Yard) -> None:
    first = await yard.running()
    await yard.lose(first)
    await yard.dispatcher.dispatch()
    other = ScriptedHost(yard.redis, "h2", yard.office)
    [second] = await other.take()
    assert second.fence == 2
    assert await yard.host.claim(first) is Standing.STALE


async def test_the_grace_of_a_new_run_begins_anew(yard: Yard) -> None:
    run = await yard.running()
    await yard.host.fall_silent(run)
    await yard.dispatcher.reconcile()
    yard.office.clock.forward(50)
    await yard.tell(run, done(outcome="failed", infrastructure=True, changed=False))
    await yard.dispatcher.dispatch()
    await yard.redis.flushall()
    yard.office.clock.forward(20)
    await yard.dispatcher.reconcile()
    assert (await yard.office.task()).state is TaskState.STARTING


async def test_a_run_that_finished_meanwhile_is_not_given_up(yard: Yard) -> None:
    run = await yard.running()
    before = await yard.office.task()
    await yard.tell(run, done())
    await yard.dispatcher.give_up(before, reason="its host fell silent")
    assert (await yard.office.task()).state is TaskState.PUBLISHING
    [row] = await yard.office.runs()
    assert row.outcome == "done"


@pytest.mark.parametrize("state", [TaskState.SUCCEEDED, TaskState.PUBLISHING, TaskState.QUEUED])
async def test_a_lease_without_a_run_is_released(yard: Yard, state: TaskState) -> None:
    run = await yard.running()
    await yard.office.put(state)
    await yard.dispatcher.reconcile()
    assert await yard.host.claim(run) is Standing.DONE


async def test_releasing_an_old_run_leaves_a_new_one_alone(yard: Yard) -> None:
    first = await yard.running()
    await yard.bus.restore(RunKey(task=first.task, fence=2))
    await yard.bus.release(first)
    assert (await yard.in_redis(first.task))["state"] == "live"


async def test_a_command_is_sent_to_the_host_of_the_run(yard: Yard) -> None:
    run = await yard.running()
    await yard.office.hear("use the mirror", addressed=False)
    await yard.dispatcher.send_commands()
    [command] = await yard.host.commands()
    assert (command.run, command.kind, command.text) == (run, "steer", "use the mirror")


async def test_an_opened_host_is_sent_as_what_it_is(yard: Yard) -> None:
    run = await yard.running()
    opening = HostOpening(host="x.example.com", methods=("GET",), ports=("https:443",))
    row = CommandRow(
        id="c1",
        task=run.task,
        fence=run.fence,
        kind="allow",
        text=opening.model_dump_json(),
        author="fake:dana",
        state="pending",
        created_at=NOW,
        sent_at=None,
    )
    async with yard.office.store.begin() as tx:
        await commands.insert(tx, row)
    await yard.dispatcher.send_commands()
    [command] = await yard.host.commands()
    assert (command.kind, command.opening, command.text) == ("allow", opening, "")


async def test_a_command_is_sent_again_until_it_was_seen(yard: Yard) -> None:
    run = await yard.running()
    await yard.office.hear("use the mirror", addressed=False)
    await yard.dispatcher.send_commands()
    assert await yard.dispatcher.send_commands() == 0
    yard.office.clock.forward(4)
    assert await yard.dispatcher.send_commands() == 1
    first, second = await yard.host.commands()
    assert first == second
    await yard.tell(run, CommandSeen(command=first.id))
    yard.office.clock.forward(4)
    assert await yard.dispatcher.send_commands() == 0


async def test_what_was_said_before_the_launch_reaches_the_run(yard: Yard) -> None:
    await yard.office.hear(ASK)
    await yard.office.hear("use the mirror", addressed=False)
    await yard.dispatcher.send_commands()
    run = await yard.again()
    await yard.dispatcher.send_commands()
    assert [(c.run, c.text) for c in await yard.host.commands()] == [(run, "use the mirror")]


async def test_a_command_that_a_lost_run_did_not_see_goes_to_the_next(yard: Yard) -> None:
    first = await yard.running()
    await yard.office.hear("use the mirror", addressed=False)
    await yard.dispatcher.send_commands()
    await yard.lose(first)
    second = await yard.again()
    await yard.dispatcher.send_commands()
    assert [c.run for c in await yard.host.commands()] == [first, second]


async def test_what_a_lost_run_was_told_is_part_of_the_next_runs_prompt(yard: Yard) -> None:
    run = await yard.running()
    await yard.office.hear("use the mirror", addressed=False)
    [command] = await yard.office.open_commands()
    await yard.tell(run, CommandSeen(command=command.id), Said(text="I will."))
    await yard.lose(run)
    assert (await yard.office.task()).prompt == f"{ASK}\n\nuse the mirror"


async def test_stop_before_a_host_took_the_launch_ends_at_once(yard: Yard) -> None:
    run = await yard.starting()
    await yard.office.hear("stop")
    await yard.dispatcher.send_commands()
    assert (await yard.office.task()).state is TaskState.STOPPED
    assert len(await yard.office.finals()) == 1
    assert await yard.host.take() == []
    assert await yard.host.claim(run) is Standing.DONE


async def test_a_stop_is_sent_to_the_host_and_said_when_it_was_done(yard: Yard) -> None:
    run = await yard.running()
    await yard.office.hear("stop")
    await yard.dispatcher.send_commands()
    [command] = await yard.host.commands()
    assert (command.kind, command.run) == ("stop", run)
    assert await yard.office.finals() == []
    await yard.tell(run, CommandSeen(command=command.id), done(outcome="stopped", changed=False))
    assert len(await yard.office.finals()) == 1


async def test_dispatching_twice_at_once_is_harmless(yard: Yard) -> None:
    await yard.office.hear(ASK)
    await asyncio.gather(yard.dispatcher.dispatch(), yard.dispatcher.dispatch())
    assert (await yard.office.task()).fence == 1
    assert len(await yard.redis.zrange(keys.run_queue("default"), 0, -1)) == 1


async def test_two_replicas_at_once_keep_to_the_limit(
    office: Office, bus: Bus, redis: Redis
) -> None:
    office.policy = limited(tasks=1)
    for n in range(2):
        await office.hear(ASK, thread=f"{n}.0")
    one, other = (Yard.of(office, bus, redis).dispatcher for _ in range(2))
    await asyncio.gather(one.dispatch(), other.dispatch())
    assert sorted(await states(office)) == [TaskState.QUEUED, TaskState.STARTING]


async def test_an_outage_of_redis_does_not_end_the_loops(
    office: Office, redis: Redis, valkey: ValkeyServer
) -> None:
    impatient = Bus(await create_pool(RedisSettings.from_dsn(valkey.url)))
    yard = Yard.of(office, impatient, redis)
    await valkey.kill()
    await office.hear(ASK)
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            loops = (yard.dispatcher.run, yard.dispatcher.run_commands, yard.applier.run)
            running = [group.create_task(loop()) for loop in loops]
            failed = {"dispatch_failed", "apply_failed"}
            await until(lambda: failed <= {line["event"] for line in logs})
            await valkey.start()
            await yard.host.announce()
            office.queued.set()
            await until(lambda: "run_dispatched" in {line["event"] for line in logs})
            for task in running:
                task.cancel()
    assert (await office.task()).state is TaskState.STARTING
    await impatient.close()


async def test_a_lease_that_sql_does_not_know_is_set_aside_after_a_grace(yard: Yard) -> None:
    """The database was restored from a copy of before the task."""
    stranger = RunKey(task="01stranger", fence=4)
    await yard.bus.restore(stranger)
    assert await yard.host.claim(stranger) is Standing.LIVE
    await yard.dispatcher.reconcile()
    assert await yard.host.claim(stranger) is Standing.LIVE
    yard.office.clock.forward(GRACE)
    await yard.dispatcher.reconcile()
    assert await yard.host.claim(stranger) is Standing.DISOWNED


async def test_no_number_of_a_run_is_given_twice_after_a_restore(yard: Yard) -> None:
    async with yard.office.store.begin() as tx:
        assert await note_restored(tx) == 1
    await yard.office.hear("acme/web fix it")
    await yard.dispatcher.dispatch()
    assert (await yard.office.task()).fence == 1001


async def test_two_who_reconcile_at_once_give_a_run_up_once(
    office: Office, bus: Bus, redis: Redis
) -> None:
    yard, second = Yard.of(office, bus, redis), Yard.of(office, bus, redis).dispatcher
    run = await yard.running()
    await yard.host.fall_silent(run)
    both = (yard.dispatcher, second)
    await asyncio.gather(*(one.reconcile() for one in both))
    office.clock.forward(GRACE)
    await asyncio.gather(*(one.reconcile() for one in both))
    await asyncio.gather(*(one.dispatch() for one in both))
    await asyncio.gather(*(one.reconcile() for one in both))
    task = await office.task()
    assert (task.state, task.fence, task.attempts) == (TaskState.STARTING, 2, 2)
    assert len(await office.record("run_lost")) == 1
    assert await yard.host.take() == [RunKey(task=task.id, fence=2)]
