"""One run from wherever it stands to its applied end, on a real Redis and real git."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from typing_extensions import override

from runner import keys
from runner.lease import Claim, Leases, Standing
from runner.outages import FALTERS
from runner.protocol import (
    Asked,
    Brokered,
    Command,
    CommandSeen,
    Egress,
    Finished,
    HostOpening,
    Phase,
    Remark,
    RunKey,
    RunLimits,
    Started,
    Traffic,
)
from runner.rundir import RunDir
from runner.sandbox import SandboxSpec
from runner.station import Pace
from runner.supervisor import LiveRun
from runner.testing import EPOCH, End
from tests.support import installation
from tests.support.agent_container import HEAD, RUN, AgentContainer, a_launch
from tests.support.site import IMAGES, SWIFT, WAIT_SECONDS, Site, until
from tests.support.valkey import ValkeyServer, redis, valkey

__all__ = ["redis", "valkey"]
pytestmark = pytest.mark.redis

SETTINGS = "setup: npm ci\nverify: [npm test]\n"


@pytest.fixture
async def site(tmp_path: Path, redis: Redis) -> Site:
    return Site(root=tmp_path, redis=redis)


async def followed(site: Site, live: LiveRun) -> None:
    async with asyncio.timeout(WAIT_SECONDS), site.applying():
        await live.follow()


def keeping(told: list[dict[str, Any]]) -> Callable[[str, str, Mapping[str, Any]], tuple[()]]:
    """A gateway that remembers what it was told."""

    def react(_key: str, _to: str, msg: Mapping[str, Any]) -> tuple[()]:
        told.append(dict(msg))
        return ()

    return react


async def nothing_is_left(site: Site, run: RunKey = RUN) -> None:
    assert await site.backend.leftovers(installation="test", host="h1") == []
    assert not await site.redis.sismember(keys.mine("h1"), str(run))  # type: ignore[misc]
    assert not (site.root / "h1" / "runs" / f"{run.task}-{run.fence}").exists()


async def test_a_run_tells_its_steps_in_order_and_hands_in_its_commits(site: Site) -> None:
    launch = await site.launch()
    await followed(site, site.live(launch.run))
    events = [r.event for r in site.records]
    assert isinstance(events[0], Started)
    assert events[0].base_commit == site.base
    assert [e.name for e in events if isinstance(e, Phase)][::2] == [
        "prepare", "agent", "commit", "push",
    ]  # fmt: skip
    assert site.finished() == Finished(outcome="done", changed=True, head=HEAD, summary="All done.")
    [(_, params, content)] = site.serve.bundles
    assert params == {"head": HEAD, "base": site.base}
    assert content == b"a bundle"
    assert {line["role"] for line in site.serve.transcript(RUN)} == {"agent", "gateway", "acceptor"}
    await nothing_is_left(site)


async def test_the_policy_is_there_before_the_agent_gets_anything(site: Site) -> None:
    launch = await site.launch()
    await followed(site, site.live(launch.run))
    sent = [key for _, _, key in site.backend.sent]
    assert sent.index("policy") < sent.index("prepare")


async def killed_at(live: LiveRun, condition: Callable[[], bool]) -> None:
    """A worker that dies once the condition holds."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(live.follow())
        await until(lambda: condition() or task.done())
        task.cancel()


async def test_killed_at_any_line_the_next_worker_goes_on(tmp_path: Path, redis: Redis) -> None:
    async def fresh(name: str) -> Site:
        await redis.flushall()
        files = {".errand.yml": SETTINGS}
        container = AgentContainer(statuses={"verify": [1]}, tails={"verify": "broken"})
        made = Site(root=tmp_path / name, redis=redis, files=files, container=container)
        await made.launch()
        return made

    whole = await fresh("whole")
    await followed(whole, whole.live(RUN))
    lines = sum(line["role"] == "agent" for line in whole.serve.transcript(RUN))
    assert lines > 20
    for count in range(lines + 1):
        site = await fresh(f"killed-{count}")
        await killed_at(site.live(RUN), lambda s=site, n=count: s.lines(RUN) >= n)  # type: ignore[misc]
        await followed(site, site.live(RUN))
        assert site.finished() == whole.finished(), count
        assert site.told() == whole.told(), count
        assert site.container.prompts == whole.container.prompts, count
        await nothing_is_left(site)


async def test_killed_before_the_containers_start_they_are_started(site: Site) -> None:
    launch = await site.launch()
    site.container.hangs = {"prepare"}
    await killed_at(site.live(RUN), lambda: site.lines(RUN) > 0)
    spec = site.backend._trios[RUN].spec
    site.backend.lose(RUN)
    RunDir(site.root / "h1" / "runs", RUN).path.joinpath("started.json").unlink(missing_ok=True)
    site.backend.create(spec, ["acceptor"])
    site.container.hangs = set()
    await followed(site, site.live(launch.run))
    assert site.finished().changed


async def test_killed_after_the_end_was_written_it_is_told_again(site: Site, redis: Redis) -> None:
    await site.launch()
    ending = RunDir(site.root / "h1" / "runs", RUN).path / "ending.json"
    await killed_at(site.live(RUN), ending.exists)
    await redis.delete(keys.EVENTS)
    site.backend.lose(RUN)
    await followed(site, site.live(RUN))
    assert site.finished().head == HEAD
    assert len(site.serve.bundles) == 1
    assert any(isinstance(r.event, Phase) for r in site.records)


async def test_containers_that_vanished_are_not_begun_again(site: Site) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    await killed_at(site.live(RUN), lambda: bool(site.lines(RUN) > 8))
    site.backend.lose(RUN)
    await followed(site, site.live(RUN))
    assert site.finished().outcome == "failed"
    assert site.finished().infrastructure


@pytest.mark.parametrize(("refusals", "outcome"), [(FALTERS, "done"), (FALTERS + 1, "failed")])
async def test_what_has_begun_is_not_lost_where_docker_falters(
    site: Site, refusals: int, outcome: str
) -> None:
    await site.launch()
    await killed_at(site.live(RUN), lambda: site.lines(RUN) > 8)
    site.backend.start_failures.extend(["server error"] * refusals)
    await followed(site, site.live(RUN))
    assert site.backend.start_failures == []
    assert site.finished().outcome == outcome
    assert site.finished().infrastructure == (outcome == "failed")


async def test_a_run_of_another_host_is_left_alone(site: Site) -> None:
    await site.launch()
    await site.station("h2").leases.claim(RUN)
    await followed(site, site.live(RUN))
    assert site.backend.sent == []
    assert site.records == []


async def test_a_run_that_becomes_stale_is_removed_without_a_word(site: Site) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(site.live(RUN).follow())
        await until(lambda: bool(site.lines(RUN) > 8))
        await site.tell(RUN.task, fence=2)
    assert not any(b"finished" in f[b"r"] for _, f in await site.redis.xrange(keys.EVENTS))
    await nothing_is_left(site)


async def test_a_fence_that_serve_calls_stale_starts_nothing(site: Site) -> None:
    await site.launch()
    site.serve.stale.add(f"/worker/runs/{RUN.task}/1")
    await followed(site, site.live(RUN))
    assert site.backend.sent == []
    await nothing_is_left(site)


async def test_a_run_that_the_database_does_not_know_is_set_aside(site: Site) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(site.live(RUN).follow())
        await until(lambda: bool(site.lines(RUN) > 8))
        await site.tell(RUN.task, **{f"disowned:{RUN.fence}": 1})
    [aside] = await site.backend.aside(installation="test")
    assert (aside.run, aside.host) == (RUN, "h1")
    assert await site.backend.leftovers(installation="test", host="h1") == []
    assert (site.root / "h1" / "aside" / f"{RUN.task}-1" / "transcript").exists()
    assert not (site.root / "h1" / "runs" / f"{RUN.task}-1").exists()
    assert await site.station().leases.mine() == set()
    assert not any(r.event.kind == "finished" for r in site.records)


async def test_a_run_that_serve_does_not_know_at_its_end_is_set_aside(site: Site) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(site.live(RUN).follow())
        await until(lambda: bool(site.lines(RUN) > 8))
        site.serve.launches.clear()
        answer = {"jsonrpc": "2.0", "id": 3, "result": {"stopReason": "end_turn"}}
        site.backend.emit(RUN, "agent", {"kind": "agent", "msg": answer})
    [aside] = await site.backend.aside(installation="test")
    assert aside.run == RUN


async def at_work(site: Site) -> None:
    """A run whose worker died while the agent was at work."""
    await site.launch()
    site.container.hangs = {"session/prompt"}
    await killed_at(site.live(RUN), lambda: bool(site.lines(RUN) > 8))


async def is_kept_aside(site: Site) -> None:
    [aside] = await site.backend.aside(installation="test")
    assert (aside.run, aside.host) == (RUN, "h1")
    kept = {path.name for path in (site.root / "h1" / "aside" / f"{RUN.task}-1").iterdir()}
    assert "launch.json" in kept
    assert "aside" not in kept
    await nothing_is_left(site)


async def test_a_sandbox_that_is_not_as_it_must_be_is_set_aside_and_its_run_fails(
    site: Site,
) -> None:
    await at_work(site)
    site.backend.changed.add(RUN)
    with capture_logs() as said:
        await followed(site, site.live(RUN))
    assert [entry["run"] for entry in said if entry["event"] == "sandbox_set_aside"] == [str(RUN)]
    assert (site.finished().outcome, site.finished().infrastructure) == ("failed", True)
    assert site.finished().reason.startswith("The sandbox was set aside: ")
    await is_kept_aside(site)


async def test_killed_while_a_sandbox_is_set_aside_nothing_is_begun_in_its_place(
    site: Site,
) -> None:
    await at_work(site)
    files = RunDir(site.root / "h1" / "runs", RUN)
    files.keep_aside()
    (files.path / "started.json").unlink()
    [found] = await site.backend.leftovers(installation="test", host="h1")
    await site.backend.set_aside(found)
    before = list(site.backend.sent)
    await followed(site, site.live(RUN))
    assert site.backend.sent == before
    assert site.finished().reason.startswith("The sandbox was set aside: ")
    await is_kept_aside(site)


async def test_what_is_to_be_set_aside_is_not_removed_if_the_run_becomes_stale(site: Site) -> None:
    await at_work(site)
    RunDir(site.root / "h1" / "runs", RUN).keep_aside()
    await site.tell(RUN.task, fence=2)
    await followed(site, site.live(RUN))
    await is_kept_aside(site)


async def test_what_was_kept_aside_outlives_what_is_left_of_its_sandbox(site: Site) -> None:
    """Somebody has ended the containers by hand: of the sandbox only volumes are left."""
    await at_work(site)
    files = RunDir(site.root / "h1" / "runs", RUN)
    files.keep_aside()
    files.set_aside()
    site.backend.lose(RUN)
    spec = SandboxSpec(
        installation="test", host="h1", run=RUN, image="errand/agent:1", mirror=site.root,
        limits=RunLimits(),
    )  # fmt: skip
    site.backend.create(spec, roles=())
    await site.live(RUN).set_aside()
    assert await site.backend.aside(installation="test") == []
    assert (site.root / "h1" / "aside" / f"{RUN.task}-1" / "transcript").exists()
    await nothing_is_left(site)


class NotedLeases(Leases):
    """Remembers what every claim answered."""

    def __init__(self, redis: Redis, *, host: str) -> None:
        super().__init__(redis, host=host)
        self.standings: list[Standing] = []

    @override
    async def claim(self, run: RunKey) -> Claim:
        claim = await super().claim(run)
        self.standings.append(claim.standing)
        return claim


async def test_an_old_redis_ends_no_run_that_is_newer(site: Site) -> None:
    launch = await site.launch(a_launch(run=RunKey(task=RUN.task, fence=2), agent="mender"))
    site.container.hangs = {"session/prompt"}
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        leases = NotedLeases(site.redis, host="h1")
        group.create_task(site.live(launch.run, leases=leases).follow())
        await until(lambda: bool(site.lines(launch.run) > 8))
        await site.tell(RUN.task, fence=1)
        await until(lambda: leases.standings[-2:] == [Standing.UNKNOWN] * 2)
        assert site.lines(launch.run) > 8
        await site.tell(RUN.task, fence=2, state="done")
    await nothing_is_left(site)


async def test_redis_may_be_away_for_a_while(site: Site, valkey: ValkeyServer) -> None:
    await site.launch()
    site.container.hangs = {"commit"}
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(site.live(RUN).follow())
        await until(lambda: bool(site.lines(RUN) > 8))
        await valkey.kill()
        site.backend.emit(RUN, "gateway", {"kind": "push", "verdict": "accept", "head": HEAD})
        site.backend.bundles[RUN] = b"a bundle"
        key = next(key for _, _, key in site.backend.sent if key.startswith("commit"))
        exited = {"kind": "exit", "key": key, "status": 0, "tail": f"head {HEAD}"}
        site.backend.emit(RUN, "agent", exited)
        await until(lambda: bool(site.serve.bundles))
        await valkey.start()
        applying = group.create_task(site.apply())
        await until(lambda: any(isinstance(r.event, Finished) for r in site.records))
        await until(lambda: not (site.root / "h1" / "runs" / f"{RUN.task}-1").exists())
        applying.cancel()
    assert site.finished().head == HEAD


async def test_after_redis_lost_its_data_everything_is_told_again(site: Site, redis: Redis) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        following = group.create_task(site.live(RUN).follow())
        await until(lambda: bool(site.lines(RUN) > 8))
        await redis.flushall()
        await site.tell(RUN.task, fence=1, state="live")
        applying = group.create_task(site.apply())
        await until(lambda: any(isinstance(r.event, Started) for r in site.records))
        answer = {"jsonrpc": "2.0", "id": 3, "result": {"stopReason": "end_turn"}}
        site.backend.emit(RUN, "agent", {"kind": "agent", "msg": answer})
        await following
        applying.cancel()
    assert site.finished().changed
    assert [k for _, _, k in site.backend.sent].count("prepare") > 1
    assert site.container.prompts == []


async def test_what_the_end_of_redis_lost_is_told_again(
    site: Site, redis: Redis, valkey: ValkeyServer
) -> None:
    """After a power cut, or a failover, the run may be known and the last that it told be gone."""

    async def ended() -> bool:
        entries = await redis.xrange(keys.EVENTS)
        return any(b'"finished"' in fields[b"r"] for _, fields in entries)

    await site.launch()
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        following = group.create_task(site.live(RUN).follow())
        await installation.until(ended, seconds=WAIT_SECONDS, what="the end is told")
        await redis.delete(keys.EVENTS)
        await valkey.kill()
        await valkey.start()
        await installation.until(ended, seconds=WAIT_SECONDS, what="the end is told again")
        applying = group.create_task(site.apply())
        await following
        applying.cancel()
    assert site.finished().changed
    assert len(site.serve.bundles) == 1


async def test_a_stop_ends_what_cannot_get_its_launch(site: Site) -> None:
    """Nor does a record of it that cannot be handed in hold up its end."""
    await site.launch()
    site.serve.outages = 1_000_000
    live = site.live(RUN, pace=dataclasses.replace(SWIFT, mend=0.1))
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        following = group.create_task(live.follow())
        await until(lambda: len(site.serve.asked) > 1)
        live.command(Command(id="c1", run=RUN, kind="stop"))
        await following
    assert site.finished().outcome == "stopped"


async def test_pictures_of_the_request_reach_the_agent_with_it(site: Site) -> None:
    there, gone = "a" * 64, "b" * 64
    site.serve.pictures[there] = b"pixels"
    site.container.sees = True
    pictures = [{"name": name, "kind": "image/png"} for name in (there, gone)]
    launch = await site.launch(a_launch(agent="mender", pictures=pictures))
    await followed(site, site.live(launch.run))
    sent = [line["msg"] for line in site.serve.transcript(RUN) if "msg" in line]
    [prompt] = [msg["params"]["prompt"] for msg in sent if msg.get("method") == "session/prompt"]
    images = [block for block in prompt if block["type"] == "image"]
    assert images == [{"type": "image", "data": "cGl4ZWxz", "mimeType": "image/png"}]
    await nothing_is_left(site)


async def test_stop_ends_an_agent_that_does_not_answer(site: Site) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    live = site.live(RUN)
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        following = group.create_task(live.follow())
        await until(lambda: bool(site.lines(RUN) > 8))
        live.command(Command(id="c1", run=RUN, kind="stop"))
        live.command(Command(id="c1", run=RUN, kind="stop"))
        await following
    assert site.finished().outcome == "stopped"
    assert any(r.event == CommandSeen(command="c1") for r in site.records)
    await nothing_is_left(site)


async def answer_the_stop(site: Site) -> None:
    """As an agent does that heeds what it is asked."""
    await until(lambda: any(key == "acp:cancel" for _, _, key in site.backend.sent))
    answer = {"jsonrpc": "2.0", "id": 3, "result": {"stopReason": "cancelled"}}
    site.backend.emit(RUN, "agent", {"kind": "agent", "msg": answer})


def full_disk(site: Site) -> Path:
    """Where a run's transcript goes, nothing can be written; what stands for that."""
    transcript = site.root / "h1" / "runs" / f"{RUN.task}-{RUN.fence}" / "transcript"
    transcript.parent.mkdir(parents=True)
    transcript.symlink_to("/dev/full")
    return transcript


async def test_a_full_disk_ends_no_run(site: Site) -> None:
    await site.launch()
    transcript = full_disk(site)
    live = site.live(RUN)
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        with capture_logs() as said:
            following = group.create_task(live.follow())
            await until(lambda: [e["event"] for e in said].count("host_lacks_something") > 1)
        transcript.unlink()
        await following
    assert site.finished().outcome == "done"
    assert len([r for r in site.records if r.event.kind == "started"]) == 1
    await nothing_is_left(site)


async def test_a_disk_that_stays_full_fails_the_run_and_is_named(site: Site) -> None:
    await site.launch()
    full_disk(site)
    await followed(site, site.live(RUN, pace=replace(SWIFT, mend=0.2)))
    assert site.finished().infrastructure
    assert "No space left on device" in site.finished().reason
    await nothing_is_left(site)


async def test_stop_hands_in_what_there_is(site: Site) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    live = site.live(RUN)
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        following = group.create_task(live.follow())
        await until(lambda: bool(site.lines(RUN) > 8))
        live.command(Command(id="c1", run=RUN, kind="stop"))
        await answer_the_stop(site)
        await following
    assert (site.finished().outcome, site.finished().changed) == ("stopped", True)
    await nothing_is_left(site)


async def test_a_second_stop_does_not_wait(site: Site) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    live = site.live(RUN, pace=replace(SWIFT, keep=10 * WAIT_SECONDS))
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        following = group.create_task(live.follow())
        await until(lambda: bool(site.lines(RUN) > 8))
        live.command(Command(id="c1", run=RUN, kind="stop"))
        live.command(Command(id="c2", run=RUN, kind="stop"))
        await following
    assert (site.finished().outcome, site.finished().changed) == ("stopped", False)
    await nothing_is_left(site)


async def test_a_stop_outlives_the_worker_that_passed_it_on(site: Site) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    live = site.live(RUN, pace=Pace(keep=WAIT_SECONDS))

    def cancelled() -> bool:
        return any(key == "acp:cancel" for _, _, key in site.backend.sent)

    async with asyncio.TaskGroup() as group:
        following = group.create_task(live.follow())
        await until(lambda: bool(site.lines(RUN) > 8))
        live.command(Command(id="c1", run=RUN, kind="stop"))
        await until(cancelled)
        following.cancel()
    await followed(site, site.live(RUN))
    assert site.finished().outcome == "stopped"


async def test_a_stop_that_comes_before_the_run_is_attached_again_keeps_its_work(
    site: Site,
) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    following = asyncio.create_task(site.live(RUN).follow())
    await until(lambda: bool(site.lines(RUN) > 8))
    following.cancel()
    await asyncio.wait([following])
    live = site.live(RUN)
    live.command(Command(id="c1", run=RUN, kind="stop"))
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        again = group.create_task(live.follow())
        await answer_the_stop(site)
        await again
    assert (site.finished().outcome, site.finished().changed) == ("stopped", True)
    await nothing_is_left(site)


async def test_a_task_that_is_to_be_cancelled_is_stopped(site: Site) -> None:
    await site.launch()
    await site.tell(RUN.task, state="cancel")
    await followed(site, site.live(RUN))
    assert site.finished().outcome == "stopped"
    assert not site.container.prompts


async def test_steering_reaches_the_agent(site: Site) -> None:
    await site.launch()
    live = site.live(RUN)
    live.command(Command(id="c1", run=RUN, kind="steer", text="also the docs"))
    await followed(site, live)
    assert site.container.prompts == ["fix it", "also the docs"]
    assert any(r.event == CommandSeen(command="c1") for r in site.records)


async def test_an_opened_host_reaches_the_gateway_and_is_confirmed(site: Site) -> None:
    await site.launch()
    told: list[dict[str, Any]] = []
    site.backend.scripts["gateway"] = keeping(told)
    live = site.live(RUN)
    opening = HostOpening(
        host="x.example.com", methods=("GET",), expires=datetime(2030, 1, 1, tzinfo=UTC)
    )
    command = Command(id="c1", run=RUN, kind="allow", opening=opening)
    for _ in range(2):
        live.command(command)
    site.container.hangs = {"session/prompt"}
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        following = group.create_task(live.follow())
        await until(lambda: any(r.event == CommandSeen(command="c1") for r in site.records))
        live.command(Command(id="c2", run=RUN, kind="stop"))
        await following
    assert [msg["do"] for msg in told] == ["policy", "allow"]
    assert told[1]["until"] == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert (told[1]["rule"]["host"], told[1]["rule"]["methods"]) == (
        "x.example.com",
        ["GET", "HEAD"],
    )
    assert not any(role == "agent" and key == "cmd:c1" for _, role, key in site.backend.sent)


async def test_profiles_are_what_the_image_says_and_what_it_does_not_say_is_on_record(
    site: Site,
) -> None:
    told: list[dict[str, Any]] = []
    site.backend.scripts["gateway"] = keeping(told)
    image = IMAGES["default"]
    site.backend.labels[image] = '{"python": ["index.acme.com"], "node": []}'
    await site.launch(a_launch(agent="mender", profiles=("python", "node", "go")))
    await followed(site, site.live(RUN))
    hosts = [rule["host"] for rule in told[0]["egress"]]
    assert hosts[:2] == ["api.acme.com", "index.acme.com"]
    assert {tuple(rule["methods"]) for rule in told[0]["egress"][1:]} == {("GET", "HEAD")}
    [remark] = [r for r in site.records if isinstance(r.event, Remark)]
    assert isinstance(remark.event, Remark)
    assert remark.event.text.endswith("they open none: node.")
    assert remark.source == "worker"


async def test_the_wall_limit_counts_from_the_first_line(site: Site) -> None:
    launch = await site.launch(a_launch(limits=RunLimits(wall_seconds=60)))
    site.container.hangs = {"prepare"}
    await killed_at(site.live(RUN), lambda: site.lines(RUN) > 1)
    await followed(site, site.live(launch.run, clock=lambda: EPOCH + 100))
    assert site.finished().outcome == "expired"
    await nothing_is_left(site)


async def test_a_failed_check_is_repaired(tmp_path: Path, redis: Redis) -> None:
    container = AgentContainer(statuses={"verify": [1]})
    site = Site(root=tmp_path, redis=redis, files={".errand.yml": SETTINGS}, container=container)
    await site.launch()
    await followed(site, site.live(RUN))
    assert site.finished().changed
    assert len(container.prompts) == 2


async def test_without_a_change_nothing_is_handed_in(site: Site) -> None:
    await site.launch()
    site.container.heads = [site.base]
    await followed(site, site.live(RUN))
    assert site.finished() == Finished(outcome="done", summary="All done.")
    assert site.serve.bundles == []


async def test_a_refused_push_hands_nothing_in(site: Site) -> None:
    await site.launch()
    site.container.statuses = {"push": [1, 1]}
    site.container.tails = {"push": "remote: infra/ is protected"}
    await followed(site, site.live(RUN))
    assert "infra/ is protected" in site.finished().reason
    assert site.serve.bundles == []


async def test_what_the_gate_refused_is_never_handed_in(site: Site) -> None:
    """Even if the agent's container says that all went well."""
    await site.launch(a_launch(agent="mender", limits=RunLimits(wall_seconds=1)))
    refused = {"kind": "push", "verdict": "refuse", "reason": "protected", "head": HEAD}
    site.container.hangs = {"push"}
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        following = group.create_task(site.live(RUN, pace=Pace(poll=0.01, guard=0.1)).follow())
        await until(lambda: any(key.startswith("push") for _, _, key in site.backend.sent))
        key = site.backend.sent[-1][2]
        site.backend.emit(RUN, "gateway", refused)
        site.backend.emit(RUN, "agent", {"kind": "exit", "key": key, "status": 0, "tail": ""})
        await following
    assert site.finished().outcome == "failed"
    assert site.serve.bundles == []


async def test_a_gateway_that_gives_up_says_why(site: Site) -> None:
    await site.launch()
    site.backend.scripts["gateway"] = [{"kind": "fatal", "reason": "cannot listen"}]
    await followed(site, site.live(RUN))
    assert "cannot listen" in site.finished().reason


async def test_wrong_repository_settings_are_the_repositorys_fault(
    tmp_path: Path, redis: Redis
) -> None:
    site = Site(root=tmp_path, redis=redis, files={".errand.yml": "setpu: x"})
    await site.launch()
    await followed(site, site.live(RUN))
    assert site.finished().outcome == "failed"
    assert "setpu" in site.finished().reason
    assert not site.finished().infrastructure


async def test_a_sandbox_that_does_not_start_is_our_fault(site: Site) -> None:
    await site.launch()
    site.backend.start_failures.append("no space left")
    await followed(site, site.live(RUN))
    assert "no space left" in site.finished().reason
    assert site.finished().infrastructure


@pytest.mark.parametrize("role", ["agent", "gateway", "acceptor"])
async def test_a_container_that_dies_is_our_fault(site: Site, role: str) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        following = group.create_task(site.live(RUN).follow())
        await until(lambda: bool(site.lines(RUN) > 8))
        site.backend.emit(RUN, role, End(137))  # type: ignore[arg-type]
        await following
    assert site.finished().infrastructure
    assert "137" in site.finished().reason


async def test_a_run_outlasts_an_absence_of_docker(site: Site) -> None:
    await site.launch()

    def asked(key: str, to: str, msg: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        steps = list(site._agent(key, to, msg))
        if site.container.prompts and not gone:
            gone.append(key)
            site.backend.go_away()
        return steps

    gone: list[str] = []
    site.backend.scripts["agent"] = asked
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        with capture_logs() as logs:
            following = group.create_task(site.live(RUN).follow())
            await until(lambda: "docker_away" in {line["event"] for line in logs})
        site.backend.come_back()
        await following
    assert site.finished().changed
    assert len(site.container.prompts) == 1
    await nothing_is_left(site)


async def test_a_run_begins_when_docker_is_back(site: Site) -> None:
    await site.launch()
    site.backend.go_away()
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        with capture_logs() as logs:
            following = group.create_task(site.live(RUN).follow())
            await until(lambda: "docker_away" in {line["event"] for line in logs})
        site.backend.come_back()
        await following
    assert site.finished().changed


async def test_what_died_while_docker_was_away_is_our_fault(site: Site) -> None:
    await site.launch()
    site.container.hangs = {"session/prompt"}
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        following = group.create_task(site.live(RUN).follow())
        await until(lambda: bool(site.lines(RUN) > 8))
        container = site.backend.container(RUN, "agent")
        site.backend.go_away()
        container.end(137)
        site.backend.come_back()
        await following
    assert site.finished().infrastructure


async def test_docker_is_not_waited_for_for_ever(site: Site) -> None:
    await site.launch()
    site.backend.go_away()
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        pace = dataclasses.replace(SWIFT, outage=0.05)
        following = group.create_task(site.live(RUN, pace=pace).follow())
        await until(lambda: any(isinstance(r.event, Finished) for r in site.records))
        site.backend.come_back()
        await following
    assert site.finished().infrastructure


async def test_a_stop_does_not_wait_for_docker(site: Site) -> None:
    await site.launch()
    site.backend.go_away()
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group, site.applying():
        live = site.live(RUN)
        with capture_logs() as logs:
            following = group.create_task(live.follow())
            await until(lambda: "docker_away" in {line["event"] for line in logs})
        live.command(Command(id="1", run=RUN, kind="stop"))
        await until(lambda: any(isinstance(r.event, Finished) for r in site.records))
        site.backend.come_back()
        await following
    assert site.finished().outcome == "stopped"


async def test_decisions_of_the_gateway_are_told(site: Site) -> None:
    await site.launch()
    site.backend.scripts["gateway"] = [
        {"kind": "received", "key": "policy"},
        {"kind": "decision", "verdict": "deny", "host": "evil.example", "port": 443,
         "method": "POST", "path": "/a" * 500, "count": 3, "rule": "", "reason": "not listed", "address": ""},
        {"kind": "closed", "host": "a.example", "port": 443, "rule": "egress:a.example", "address": "11.0.0.1",
         "requests": 2, "sent": 10, "received": 20, "ms": 30, "reason": ""},
        {"kind": "remark", "text": "The policy stays as it was."},
    ]  # fmt: skip
    await followed(site, site.live(RUN))
    [egress] = [r for r in site.records if isinstance(r.event, Egress)]
    assert (egress.source, egress.seq) == ("gateway", 3)
    assert isinstance(egress.event, Egress)
    assert (egress.event.method, egress.event.count) == ("POST", 3)
    assert egress.event.path == ("/a" * 500)[:300]
    [traffic] = [r.event for r in site.records if isinstance(r.event, Traffic)]
    assert (traffic.requests, traffic.sent, traffic.received, traffic.milliseconds) == (
        2,
        10,
        20,
        30,
    )
    [remark] = [r.event for r in site.records if isinstance(r.event, Remark)]
    assert remark.text == "The policy stays as it was."


async def test_serve_may_be_away_for_a_while(site: Site) -> None:
    await site.launch()
    site.serve.outages = 2
    await followed(site, site.live(RUN))
    assert site.finished().changed


async def test_a_command_is_run_by_serve_and_told_to_the_gateway_once(site: Site) -> None:
    launch = await site.launch()
    site.container.hangs = {"commit"}
    ask = {"kind": "ask", "id": 1, "tool": "gh", "argv": ["pr", "view"]}
    async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(site.live(launch.run).follow())
        await until(lambda: site.lines(RUN) > 8)
        site.backend.emit(RUN, "gateway", ask)
        await until(lambda: (RUN, "gateway", "answer:1") in site.backend.sent)
        told = {"kind": "brokered", "tool": "gh", "argv": ["pr", "view"], "verdict": "allow"}
        site.backend.emit(RUN, "gateway", told)
        await site.tell(RUN.task, state="cancel")
        applying = group.create_task(site.apply())
        await until(lambda: any(isinstance(r.event, Finished) for r in site.records))
        await until(lambda: not (site.root / "h1" / "runs" / f"{RUN.task}-1").exists())
        applying.cancel()
    assert site.serve.commands == [Asked(tool="gh", argv=("pr", "view"))]
    [event] = [r.event for r in site.records if isinstance(r.event, Brokered)]
    assert (event.tool, event.argv, event.verdict) == ("gh", ("pr", "view"), "allow")
