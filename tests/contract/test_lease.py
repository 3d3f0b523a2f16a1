"""Leases and streams on a real server."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis.asyncio import Redis

from runner import keys
from runner.lease import Claim, Leases, Standing
from runner.patience import line_options
from runner.protocol import Command, EventRecord, Phase, RunKey, StepStatus
from runner.streams import Streams
from tests.support.relay import join, wire
from tests.support.site import until
from tests.support.valkey import ValkeyServer, redis, set_fields, valkey

__all__ = ["redis", "valkey"]
pytestmark = pytest.mark.redis

RUN = RunKey(task="t1", fence=2)


async def known(redis: Redis, **fields: str | int) -> None:
    await set_fields(redis, keys.task("t1"), {"fence": 2, "state": "live", **fields})


async def test_a_claim_takes_the_lease(redis: Redis) -> None:
    await known(redis)
    leases = Leases(redis, host="h1")
    assert await leases.claim(RUN) == Claim(Standing.LIVE, known=False)
    assert await redis.get(keys.lease("t1")) == b"h1:2"
    assert 0 < await redis.pttl(keys.lease("t1")) <= 30_000
    assert await leases.mine() == {RUN}


async def test_a_second_claim_of_the_same_host_is_a_renewal(redis: Redis) -> None:
    await known(redis)
    leases = Leases(redis, host="h1")
    await leases.claim(RUN)
    await redis.delete(keys.lease("t1"))
    assert await leases.claim(RUN) == Claim(Standing.LIVE, known=True)
    assert await redis.exists(keys.lease("t1"))


async def test_another_host_is_told_that_it_is_taken(redis: Redis) -> None:
    await known(redis)
    await Leases(redis, host="h1").claim(RUN)
    assert (await Leases(redis, host="h2").claim(RUN)).standing is Standing.TAKEN
    assert await Leases(redis, host="h2").mine() == set()


async def test_an_earlier_fence_is_stale(redis: Redis) -> None:
    await known(redis)
    claim = await Leases(redis, host="h1").claim(RunKey(task="t1", fence=1))
    assert claim.standing is Standing.STALE


async def test_a_later_fence_than_redis_knows_is_unknown(redis: Redis) -> None:
    """Redis may have come back with old data; what it had forgotten goes on."""
    await known(redis)
    claim = await Leases(redis, host="h1").claim(RunKey(task="t1", fence=3))
    assert claim.standing is Standing.UNKNOWN


async def test_a_run_that_was_disowned_is_nobodys(redis: Redis) -> None:
    await set_fields(redis, keys.task("t1"), {"disowned:3": 1})
    leases = Leases(redis, host="h1")
    assert (await leases.claim(RunKey(task="t1", fence=3))).standing is Standing.DISOWNED
    assert (await leases.claim(RunKey(task="t1", fence=2))).standing is Standing.UNKNOWN
    assert not await redis.exists(keys.lease("t1"))


async def test_a_task_that_redis_does_not_know_is_unknown(redis: Redis) -> None:
    assert (await Leases(redis, host="h1").claim(RUN)).standing is Standing.UNKNOWN
    assert not await redis.exists(keys.task("t1"))


async def test_cancel_keeps_the_lease_and_done_gives_it_back(redis: Redis) -> None:
    leases = Leases(redis, host="h1")
    await known(redis, state="cancel")
    assert (await leases.claim(RUN)).standing is Standing.CANCEL
    assert await redis.exists(keys.lease("t1"))
    await known(redis, state="done")
    assert (await leases.claim(RUN)).standing is Standing.DONE
    assert not await redis.exists(keys.lease("t1"))


async def test_forgetting_is_safe_twice(redis: Redis) -> None:
    await known(redis)
    leases = Leases(redis, host="h1")
    await leases.claim(RUN)
    await leases.forget(RUN)
    await leases.forget(RUN)
    assert await leases.mine() == set()


async def test_a_host_is_known_while_it_says_so(redis: Redis) -> None:
    leases = Leases(redis, host="h1")
    await leases.announce(slots=4, free=3, version="1")
    assert 0 < await redis.pttl(keys.host("h1")) <= 30_000
    await leases.withdraw()
    assert not await redis.exists(keys.host("h1"))


async def test_a_claim_waits_for_redis(valkey: ValkeyServer, redis: Redis) -> None:
    await known(redis)
    await valkey.kill()
    async with asyncio.TaskGroup() as group:
        claim = group.create_task(Leases(redis, host="h1").claim(RUN))
        await valkey.start()
    assert claim.result().standing is Standing.LIVE


async def test_events_are_written_and_acknowledged_by_source(redis: Redis) -> None:
    event = Phase(name="agent", status=StepStatus.DONE)
    record = EventRecord(run=RUN, source="agent", seq=10, at=datetime.now(UTC), event=event)
    streams = Streams(redis)
    await streams.publish(record)
    [[_, fields]] = await redis.xrange(keys.EVENTS)
    assert EventRecord.model_validate_json(fields[b"r"]) == record
    await known(redis, **{"ack:2:agent": 10, "ack:1:agent": 99})
    assert await streams.acknowledged(RUN) == {"agent": 10}


async def test_commands_come_from_the_oldest_and_go_on_live(redis: Redis) -> None:
    first, second = (Command(id=i, run=RUN, kind="stop") for i in ("c1", "c2"))
    await redis.xadd(keys.commands("h1"), {"c": first.model_dump_json()})
    await redis.xadd(keys.commands("h1"), {"c": "no command"})
    stream = Streams(redis).commands("h1")
    assert await anext(stream) == first
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_next(stream))
        await redis.xadd(keys.commands("h1"), {"c": second.model_dump_json()})
    assert waiting.result() == second


async def test_commands_go_on_where_redis_has_vanished_without_a_word(
    valkey: ValkeyServer, redis: Redis
) -> None:
    """As a machine that lost its power, or a firewall that forgot: there is no answer and no end."""
    stop = Command(id="c1", run=RUN, kind="stop")
    path = Path(valkey.url.removeprefix("unix://"))
    async with wire(path.with_name("wire"), path) as line:
        client = Redis.from_url(line.url)
        streams = Streams(client, answer_seconds=0.1)
        async with contextlib.aclosing(client), asyncio.TaskGroup() as group:
            waiting = group.create_task(_next(streams.commands("h1")))
            await until(lambda: line.calls == 1)
            line.silence()
            await redis.xadd(keys.commands("h1"), {"c": stop.model_dump_json()})
        assert waiting.result() == stop


async def test_the_kernel_gives_up_a_line_on_which_nobody_answers(valkey: ValkeyServer) -> None:
    async with over_tcp(Path(valkey.url.removeprefix("unix://"))) as url:
        client = Redis.from_url(url, **line_options(url))
        connection = await client.connection_pool.get_connection()
        line = connection._writer.get_extra_info("socket")
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 25_000
        await client.aclose(close_connection_pool=True)


@contextlib.asynccontextmanager
async def over_tcp(server: Path) -> AsyncIterator[str]:
    """The same server at a port."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_unix_connection(server)
        with contextlib.closing(outer), contextlib.closing(writer):
            await join((reader, writer), (inner, outer))

    listening = await asyncio.start_server(take, "127.0.0.1", 0)
    async with listening:
        yield f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def _next(stream: object) -> Command:
    command: Command = await anext(stream)  # type: ignore[call-overload]
    return command
