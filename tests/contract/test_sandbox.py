"""What every sandbox backend promises, in memory and on a real Docker host."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runner.errors import SandboxLostError, SandboxStartError
from runner.sandbox import Role, Sandbox
from tests.support.docker_host import IMAGE_SECONDS, default_image, docker_backend, make_mirror
from tests.support.sandboxes import (
    BRANCH,
    END_INIT,
    SAY_HI,
    DockerRig,
    MemoryRig,
    Rig,
    line,
    whole,
)

ROLES: tuple[Role, ...] = ("acceptor", "gateway", "agent")
REAL = pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.timeout(IMAGE_SECONDS)])


@pytest.fixture(params=["memory", REAL])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    if request.param == "memory":
        yield MemoryRig()
        return
    image = default_image()
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    mirror, base = make_mirror(tmp_path)
    async with docker_backend(request) as (backend, installation):
        yield DockerRig(
            backend=backend, installation=installation, image=image, mirror=mirror, base=base
        )


async def end(sandbox: Sandbox) -> None:
    await sandbox.send("agent", key="end", to="init", msg=END_INIT)
    await whole(sandbox, "agent")


async def test_ensure_twice_makes_one_sandbox(rig: Rig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    await sandbox.ensure()
    (found,) = await rig.backend.leftovers(installation=rig.installation, host="here")
    assert len(found.containers) == 3
    await end(sandbox)
    assert [found.kind for found in await whole(sandbox, "agent")].count("ready") == 1


async def test_what_is_set_aside_is_kept_and_is_no_leftover(rig: Rig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    (found,) = await rig.backend.leftovers(installation=rig.installation, host="here")
    await rig.backend.set_aside(found)
    await rig.backend.set_aside(found)
    assert await rig.backend.leftovers(installation=rig.installation, host="here") == []
    (aside,) = await rig.backend.aside(installation=rig.installation)
    assert (aside.run, aside.host, len(aside.containers)) == (found.run, "here", 3)
    assert not set(aside.containers) & set(found.containers)
    await rig.backend.discard(aside)
    assert await rig.backend.aside(installation=rig.installation) == []


@pytest.mark.parametrize("made", [("acceptor",), ("acceptor", "gateway"), ROLES])
async def test_ensure_completes_what_a_crash_left(rig: Rig, made: tuple[Role, ...]) -> None:
    spec = rig.spec()
    await rig.create(spec, made)
    sandbox = rig.backend.open(spec)
    await sandbox.ensure()
    assert [await sandbox.exit_status(role) for role in ROLES] == [None, None, None]
    assert (await line(sandbox, "agent", kind="ready")).n == 1


async def test_a_container_that_is_made_and_not_started_has_no_exit_status(rig: Rig) -> None:
    spec = rig.spec()
    await rig.create(spec, ROLES)
    assert await rig.backend.open(spec).exit_status("agent") is None


async def test_ensure_starts_no_container_that_has_ended(rig: Rig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    await end(sandbox)
    before = await whole(sandbox, "agent")
    await sandbox.ensure()
    assert await whole(sandbox, "agent") == before


async def test_a_sandbox_of_other_limits_is_adopted_as_it_was_made(rig: Rig) -> None:
    sandbox = rig.backend.open(rig.spec(task="one", memory_mib=256))
    await sandbox.ensure()
    await rig.backend.open(rig.spec(task="one", memory_mib=512)).ensure()
    assert [await sandbox.exit_status(role) for role in ROLES] == [None, None, None]


async def test_an_unknown_image_is_a_start_error_and_leaves_nothing_after_remove(rig: Rig) -> None:
    sandbox = rig.backend.open(rig.spec().model_copy(update={"image": "errand-nowhere:1"}))
    with pytest.raises(SandboxStartError):
        await sandbox.ensure()
    await sandbox.remove()
    assert await rig.backend.leftovers(installation=rig.installation, host="here") == []


async def test_another_handle_reads_the_same_transcript_from_its_start(rig: Rig) -> None:
    spec = rig.spec()
    first = rig.backend.open(spec)
    await first.ensure()
    await first.send("agent", key="setup:0", to="init", msg=SAY_HI)
    await line(first, "agent", kind="exit", key="setup:0")
    second = rig.backend.open(spec)
    await end(second)
    transcript = await whole(second, "agent")
    assert [found.n for found in transcript] == list(range(1, len(transcript) + 1))
    assert transcript[0].kind == "ready"
    assert transcript == await whole(first, "agent")


async def test_a_line_is_followed_while_the_container_lives(rig: Rig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(line(sandbox, "agent", kind="output", key="setup:0"))
        await line(sandbox, "agent", kind="ready")
        await sandbox.send("agent", key="setup:0", to="init", msg=SAY_HI)
    assert waiting.result().model_dump()["text"] == "hi\n"


async def test_a_follower_that_leaves_disturbs_nobody(rig: Rig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await whole(sandbox, "agent")
    await sandbox.send("agent", key="setup:0", to="init", msg=SAY_HI)
    await line(sandbox, "agent", kind="exit", key="setup:0")


async def test_a_message_sent_twice_is_acted_on_once(rig: Rig) -> None:
    spec = rig.spec()
    sandbox = rig.backend.open(spec)
    await sandbox.ensure()
    await sandbox.send("agent", key="setup:0", to="init", msg=SAY_HI)
    await sandbox.send("agent", key="setup:0", to="init", msg=SAY_HI)
    await rig.backend.open(spec).send("agent", key="setup:0", to="init", msg=SAY_HI)
    await sandbox.send("agent", key="setup:1", to="init", msg=SAY_HI)
    await line(sandbox, "agent", kind="exit", key="setup:1")
    await end(sandbox)
    said = [found.model_dump() for found in await whole(sandbox, "agent")]
    assert [found["key"] for found in said if found["kind"] == "output"] == ["setup:0", "setup:1"]


async def test_an_end_has_a_status(rig: Rig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    assert await sandbox.exit_status("agent") is None
    await end(sandbox)
    assert await sandbox.exit_status("agent") == 143


async def test_nothing_can_be_sent_to_what_has_ended(rig: Rig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    await end(sandbox)
    with pytest.raises(SandboxLostError):
        await sandbox.send("agent", key="late", to="init", msg=SAY_HI)


async def test_what_is_gone_is_lost(rig: Rig) -> None:
    sandbox = rig.backend.open(rig.spec())
    with pytest.raises(SandboxLostError):
        await sandbox.exit_status("agent")
    with pytest.raises(SandboxLostError):
        await sandbox.image_digest()
    with pytest.raises(SandboxLostError):
        await sandbox.send("agent", key="late", to="init", msg=SAY_HI)
    with pytest.raises(SandboxLostError):
        await whole(sandbox, "agent")


async def test_a_follower_ends_when_the_sandbox_is_removed(rig: Rig) -> None:
    sandbox, reading = rig.backend.open(rig.spec()), asyncio.Event()
    await sandbox.ensure()

    async def follow() -> list[str]:
        kinds = []
        async for found in sandbox.follow("agent"):
            kinds.append(found.kind)
            reading.set()
        return kinds

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        follower = group.create_task(follow())
        await reading.wait()
        await sandbox.remove()
    assert follower.result() == ["ready"]


async def test_remove_twice_is_no_error(rig: Rig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    await sandbox.remove()
    await sandbox.remove()
    assert await rig.backend.leftovers(installation=rig.installation, host="here") == []
    with pytest.raises(SandboxLostError):
        await sandbox.exit_status("agent")


async def test_leftovers_are_found_by_installation_and_host_and_discarded_twice(rig: Rig) -> None:
    whole_one, half_one = rig.spec(task="a"), rig.spec(task="b")
    await rig.backend.open(whole_one).ensure()
    await rig.create(half_one, ("acceptor",))
    found = await rig.backend.leftovers(installation=rig.installation, host="here")
    assert [(left.run, len(left.containers)) for left in found] == [
        (whole_one.run, 3),
        (half_one.run, 1),
    ]
    assert await rig.backend.leftovers(installation="another", host="here") == []
    assert await rig.backend.leftovers(installation=rig.installation, host="there") == []
    assert await rig.backend.leftovers(installation=rig.installation) == found
    for left in [*found, *found]:
        await rig.backend.discard(left)
    assert await rig.backend.leftovers(installation=rig.installation, host="here") == []


async def test_a_bundle_brings_what_was_pushed(rig: Rig) -> None:
    spec = rig.spec()
    sandbox = rig.backend.open(spec)
    await sandbox.ensure()
    await rig.push(sandbox, spec)
    bundle = b"".join([piece async for piece in sandbox.bundle(base=rig.base, branch=BRANCH)])
    assert bundle.startswith(b"# v2 git bundle\n")


async def test_there_is_no_bundle_of_what_was_not_pushed(rig: Rig) -> None:
    sandbox = rig.backend.open(rig.spec())
    await sandbox.ensure()
    with pytest.raises(SandboxLostError):
        async for _ in sandbox.bundle(base=rig.base, branch=BRANCH):
            pass


async def test_a_host_in_order_has_no_problems(rig: Rig) -> None:
    assert await rig.backend.check() == []
