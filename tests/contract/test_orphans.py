"""What a host has left on a Docker host whose `work` is not there, on a real Redis."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from runner.orphans import Orphans, without_host
from runner.protocol import RunLimits
from runner.sandbox import SandboxSpec
from runner.trial import host_label
from runner.worker import Shift
from tests.contract.test_worker import a_config
from tests.support.agent_container import RUN
from tests.support.site import SWIFT, WAIT_SECONDS, Site, until
from tests.support.valkey import ValkeyServer, redis, valkey

__all__ = ["redis", "valkey"]
pytestmark = pytest.mark.redis


@pytest.fixture
async def site(tmp_path: Path, redis: Redis) -> Site:
    return Site(root=tmp_path, redis=redis)


def left_by(site: Site, host: str) -> None:
    spec = SandboxSpec(
        installation="test", host=host, run=RUN, image="errand/agent:1", mirror=Path("/mirror"),
        limits=RunLimits(),
    )  # fmt: skip
    site.backend.start_all(spec)


async def told(orphans: Orphans, *, looks: int = 1) -> list[str]:
    """Hosts of which the log tells."""
    with capture_logs() as logs:
        for _ in range(looks):
            await orphans.look()
    return [entry["host"] for entry in logs if entry["event"] == "host_away"]


async def test_sandboxes_of_a_host_that_is_not_at_work_are_told_of_once(site: Site) -> None:
    left_by(site, "lost")
    assert await told(Orphans(site.station()), looks=3) == ["lost"]
    assert [left.run for left in await site.backend.leftovers(installation="test")] == [RUN]


async def test_a_host_that_goes_away_again_is_told_of_again(site: Site) -> None:
    left_by(site, "restarting")
    orphans, restarting = Orphans(site.station()), site.station("restarting").leases
    assert await told(orphans) == ["restarting"]
    await restarting.announce(slots=1, free=1, version="0")
    assert await told(orphans) == []
    await restarting.withdraw()
    assert await told(orphans) == ["restarting"]


@pytest.mark.parametrize("host", ["h1", host_label()], ids=["our-own", "a-trial"])
async def test_our_own_sandboxes_and_trials_are_no_orphans(site: Site, host: str) -> None:
    left_by(site, host)
    assert await told(Orphans(site.station())) == []


async def test_another_installations_sandboxes_are_not_told_of(site: Site) -> None:
    left_by(site, "lost")
    assert await told(Orphans(site.station(installation="another"))) == []


async def test_what_was_set_aside_is_told_of_there(site: Site) -> None:
    left_by(site, "lost")
    leases = site.station().leases
    [found] = await without_host(site.backend, leases, installation="test")
    await site.backend.set_aside(found)
    assert await without_host(site.backend, leases, installation="test") == []


async def test_a_worker_tells_of_what_a_lost_host_left(site: Site, valkey: ValkeyServer) -> None:
    left_by(site, "lost")
    shift = Shift(a_config(site.root, valkey), site.station(pace=SWIFT))
    with capture_logs() as logs:
        async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
            working = group.create_task(shift.run())
            await until(lambda: "host_away" in {entry["event"] for entry in logs})
            working.cancel()
