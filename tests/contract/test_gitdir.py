"""One repository of ours under many hands, and after somebody was killed at it."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.git import Git
from runner.gitdir import held, is_whole
from tests.support.git_server import GitServer, git_server

REPO = "acme/web"
ALL = ["+refs/heads/*:refs/fetched/*"]
HOLDING = """
import asyncio, pathlib, sys
from runner.gitdir import held
async def main():
    async with held(pathlib.Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path / "server") as server:
        server.create(REPO, {"README.md": "# web\n"})
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "repos" / "web.git"


async def use(path: Path, server: GitServer) -> str | None:
    async with held(path) as git:
        await git.fetch(f"{server.url}/{REPO}.git", header=server.header, refspecs=ALL)
        return await git.rev_parse("refs/fetched/main")


def leave(lock: Path) -> None:
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()


def leftovers(path: Path) -> list[Path]:
    return list(path.rglob("*.lock"))


async def test_many_at_once_have_it_one_after_the_other(path: Path, server: GitServer) -> None:
    found = await asyncio.gather(*(use(path, server) for _ in range(8)))
    assert set(found) == {server.sha(REPO, "main")}


async def test_another_process_is_waited_for_until_it_is_killed(
    path: Path, server: GitServer
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDING, str(path),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    waiting = asyncio.ensure_future(use(path, server))
    done, _ = await asyncio.wait({waiting}, timeout=0.3)
    process.kill()
    await process.wait()
    assert (done, await waiting) == (set(), server.sha(REPO, "main"))


@pytest.mark.parametrize("left", ["HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock"])
async def test_a_lock_of_somebody_who_was_killed_at_it_is_removed(
    path: Path, server: GitServer, left: str
) -> None:
    leave(path / left)
    assert await use(path, server)
    leave(path / left)
    leave(path / "refs/fetched/main.lock")
    assert await use(path, server)
    assert not leftovers(path)


@pytest.mark.parametrize("missing", ["HEAD", "config", "objects/info"])
async def test_what_was_begun_is_made_whole(path: Path, server: GitServer, missing: str) -> None:
    await Git.init_bare(path)
    lacking = path / missing
    lacking.rmdir() if lacking.is_dir() else lacking.unlink()
    assert not is_whole(path)
    assert await use(path, server)
    assert is_whole(path)


async def test_what_is_there_whole_is_not_made_again(path: Path, server: GitServer) -> None:
    await use(path, server)
    before = (path / "config").stat()
    await use(path, server)
    assert (path / "config").stat().st_ino == before.st_ino
