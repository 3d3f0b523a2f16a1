"""A run's cost, as its gateway counts it, and the end of its budget: what `serve` hears of both."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from bot.progress import View, advance
from runner.protocol import Finished, RunLimits, Usage
from tests.contract.test_supervisor import followed, killed_at, nothing_is_left
from tests.support.agent_container import RUN, AgentContainer, a_launch
from tests.support.site import Site
from tests.support.valkey import ValkeyServer, redis, valkey

__all__ = ["ValkeyServer", "redis", "valkey"]
pytestmark = pytest.mark.redis

SPENT = {"kind": "budget", "limit_usd": 2.0, "spent_usd": 2.1}


def usage(calls: int, *, cost: float | None = 0.25) -> dict[str, Any]:
    return {
        "kind": "usage", "connection": "anthropic", "model": "claude-x", "calls": calls, "input": 100 * calls,
        "output": 10 * calls, "cache_read": 1000 * calls, "cache_write": 5 * calls, "cache_write_hour": 0,
        "cost_usd": None if cost is None else cost * calls, "counted_usd": 0.25 * calls,
    }  # fmt: skip


@pytest.fixture
async def site(tmp_path: Path, redis: Redis) -> Site:
    return a_site(tmp_path, redis, [usage(1), usage(2)])


def a_site(root: Path, redis: Redis, lines: Iterable[Mapping[str, Any]]) -> Site:
    """Its gateway says this as soon as it has its policy."""

    def gateway(key: str, _to: str, _msg: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        return lines if key == "policy" else ()

    made = Site(root=root, redis=redis, container=AgentContainer())
    made.backend.scripts["gateway"] = gateway
    return made


def shown(site: Site) -> View:
    view = View()
    for record in site.records:
        view = advance(view, record.event)
    return view


async def test_what_the_gateway_counts_is_told_in_totals(site: Site) -> None:
    launch = await site.launch()
    await followed(site, site.live(launch.run))
    told = [r for r in site.records if isinstance(r.event, Usage)]
    assert [r.source for r in told] == ["gateway", "gateway"]
    assert told[-1].event == Usage(
        metered=True,
        input_tokens=210,
        output_tokens=20,
        cached_tokens=2000,
        cost_usd=0.5,
        counted_usd=0.5,
    )
    assert shown(site).cost_usd == 0.5


async def test_a_worker_that_comes_back_counts_nothing_twice(site: Site) -> None:
    await site.launch()
    await killed_at(site.live(RUN), lambda: site.lines(RUN) >= 6)
    await followed(site, site.live(RUN))
    told = [r.seq for r in site.records if isinstance(r.event, Usage)]
    assert len(told) == len(set(told)) == 2
    assert shown(site).cost_usd == 0.5


async def test_what_the_gateway_says_last_is_told_before_the_end(
    tmp_path: Path, redis: Redis
) -> None:
    site = Site(root=tmp_path, redis=redis)

    def gateway(key: str, _to: str, _msg: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        return [usage(3), {"kind": "received", "key": key}] if key == "settle" else ()

    site.backend.scripts["gateway"] = gateway
    site.container.changed = False
    await site.launch()
    await followed(site, site.live(RUN))
    keys = [key for _, role, key in site.backend.sent if role == "gateway"]
    assert keys == ["policy", "settle"]
    assert isinstance(site.records[-1].event, Finished)


async def test_an_agent_that_waits_on_after_the_budget_is_used_up_is_ended(
    tmp_path: Path, redis: Redis
) -> None:
    site = a_site(tmp_path, redis, [usage(8), SPENT])
    site.container.hangs = {"session/prompt"}
    launch = await site.launch(a_launch(agent="mender", limits=RunLimits(cost_usd=2.0)))
    await followed(site, site.live(launch.run))
    finished = site.finished()
    assert (finished.outcome, finished.infrastructure) == ("failed", False)
    assert finished.reason.startswith("The budget of $2.00 is used up, and nothing was published.")
    assert "limits.cost_usd" in finished.reason
    assert shown(site).cost_usd == 2.0
    await nothing_is_left(site)


async def test_what_was_done_without_all_its_calls_is_not_handed_in(
    tmp_path: Path, redis: Redis
) -> None:
    site = a_site(tmp_path, redis, [SPENT])
    launch = await site.launch()
    await followed(site, site.live(launch.run))
    assert site.finished().outcome == "failed"
    assert "budget" in site.finished().reason
    assert site.serve.bundles == []


async def test_the_agents_own_words_on_it_are_kept_as_the_tail(
    tmp_path: Path, redis: Redis
) -> None:
    site = a_site(tmp_path, redis, [SPENT])
    site.container.stop_reason = "refusal"
    launch = await site.launch()
    await followed(site, site.live(launch.run))
    assert site.finished().reason.startswith("The budget")
    assert site.finished().summary == "All done."


async def test_a_killed_worker_leaves_the_end_of_the_budget_to_the_next(
    tmp_path: Path, redis: Redis
) -> None:
    site = a_site(tmp_path, redis, [SPENT])
    site.container.hangs = {"session/prompt"}
    await site.launch()
    await killed_at(site.live(RUN), lambda: site.lines(RUN) > 8)
    await followed(site, site.live(RUN))
    assert "budget" in site.finished().reason
