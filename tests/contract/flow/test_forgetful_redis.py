"""A Redis that forgot who works on what: nothing is given up that a host may still hand in, and no attempt is lost."""

import pytest

from bot.states import MAX_ATTEMPTS, TaskState
from integrations.channel import Mark
from runner import keys
from runner.lease import Standing
from runner.protocol import CommandSeen
from tests.contract.flow.yard import Yard, done

pytestmark = pytest.mark.redis


async def test_a_stop_after_redis_was_flushed_waits_for_the_host_and_its_work(yard: Yard) -> None:
    run = await yard.running()
    await yard.redis.flushall()
    await yard.office.hear("stop")
    await yard.dispatcher.send_commands()
    await yard.dispatcher.send_commands()
    assert (await yard.office.task()).state is TaskState.STOPPING
    [card] = await yard.office.cards()
    assert (card.state, "60 s" in card.doing) == ("stopping", True)

    await yard.dispatcher.reconcile()
    assert await yard.host.claim(run) is Standing.LIVE
    await yard.dispatcher.send_commands()
    [command] = await yard.host.commands()
    assert (command.kind, command.run) == ("stop", run)
    await yard.tell(run, CommandSeen(command=command.id), done(outcome="stopped"))
    assert (await yard.office.task()).state is TaskState.KEEPING
    assert await yard.office.finals() == []


async def test_a_stop_after_redis_was_flushed_ends_after_the_grace(yard: Yard) -> None:
    await yard.running()
    await yard.redis.flushall()
    await yard.office.hear("stop")
    await yard.dispatcher.send_commands()
    await yard.wait_out_the_grace()
    assert (await yard.office.task()).state is TaskState.STOPPED
    [word] = await yard.office.finals()
    assert (word.outcome, "could not be kept" in word.text) == ("stopped", True)
    assert await yard.office.marks() == {Mark.STOPPED}


async def test_a_stop_that_an_old_redis_knows_nothing_of_waits_as_well(yard: Yard) -> None:
    """A launch is there of which the host that works on it is not known any more."""
    run = await yard.running()
    await yard.redis.flushall()
    await yard.bus.push_launch(run)
    await yard.office.hear("stop")
    await yard.dispatcher.send_commands()
    assert (await yard.office.task()).state is TaskState.STOPPING
    assert await yard.bus.has_launch(run)
    await yard.wait_out_the_grace()
    assert (await yard.office.task()).state is TaskState.STOPPED


async def test_a_launch_that_a_host_has_claimed_is_not_taken_back(yard: Yard) -> None:
    run = await yard.starting()
    assert await yard.host.claim(run) is Standing.LIVE
    assert not await yard.bus.take_back(run)
    assert await yard.bus.has_launch(run)
    assert await yard.host.claim(run) is Standing.LIVE


async def test_a_launch_that_was_taken_back_is_over_for_who_had_read_it(yard: Yard) -> None:
    run = await yard.starting()
    assert await yard.bus.take_back(run)
    assert await yard.host.claim(run) is Standing.DONE
    assert not await yard.bus.has_launch(run)
    assert await yard.redis.zcard(keys.run_queue("default")) == 0
    assert not await yard.bus.take_back(run)


async def test_a_launch_that_no_host_has_seen_costs_no_attempt_however_often_it_is_lost(
    yard: Yard,
) -> None:
    await yard.starting()
    for _ in range(2 * MAX_ATTEMPTS):
        await yard.redis.flushall()
        await yard.host.announce()
        await yard.wait_out_the_grace()
        await yard.dispatcher.dispatch()
    task = await yard.office.task()
    assert (task.state, task.fence, task.attempts) == (TaskState.STARTING, 2 * MAX_ATTEMPTS + 1, 1)
    assert await yard.office.finals() == []
    assert len(await yard.host.take()) == 1


@pytest.mark.parametrize("flushed", [False, True])
async def test_a_launch_that_kills_its_host_at_once_fails_with_the_third(
    yard: Yard, *, flushed: bool
) -> None:
    """Claimed, and never heard of again; even where Redis forgets who had claimed it."""
    await yard.starting()
    for _ in range(MAX_ATTEMPTS):
        [run] = await yard.host.take()
        await yard.dispatcher.reconcile()
        await yard.host.fall_silent(run)
        if flushed:
            await yard.redis.flushall()
        await yard.host.announce()
        await yard.wait_out_the_grace()
        await yard.dispatcher.dispatch()
    task = await yard.office.task()
    assert (task.state, task.attempts) == (TaskState.FAILED, MAX_ATTEMPTS)
    [word] = await yard.office.finals()
    assert "3 attempts" in word.text


async def test_a_host_that_claimed_while_nobody_looked_costs_an_attempt(yard: Yard) -> None:
    await yard.starting()
    [run] = await yard.host.take()
    await yard.lose(run)
    await yard.dispatcher.dispatch()
    assert (await yard.office.task()).attempts == 2
