"""Mirrors with real git."""

import asyncio
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from runner.errors import WorkspaceError
from runner.git import Git
from runner.mirror import Mirrors
from runner.serve_client import GitAccess
from tests.support.agent_container import a_launch
from tests.support.git_server import commit, run_git


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    git_dir = tmp_path / "origin.git"
    run_git(git_dir, "init", "--bare", "--quiet", "--template=", "--initial-branch=main")
    commit(git_dir, {".errand.yml": "verify: make\n"}, branch="main", message="Initial commit")
    return git_dir


def access(origin: Path) -> GitAccess:
    return GitAccess(url=f"file://{origin}", header=SecretStr("Authorization: Basic x"))


async def test_a_mirror_has_the_base_and_its_settings(tmp_path: Path, origin: Path) -> None:
    checkout = await Mirrors(tmp_path / "mirrors").refresh(a_launch(), access(origin))
    head = run_git(origin, "rev-parse", "main").decode().strip()
    assert checkout.base_commit == head
    assert checkout.settings == b"verify: make\n"


async def test_a_resumed_task_goes_on_from_its_branch_with_the_bases_settings(
    tmp_path: Path, origin: Path
) -> None:
    launch = a_launch(resume=True)
    files = {".errand.yml": "verify: true\n"}
    head = commit(origin, files, branch=launch.branch, message="Earlier work")
    checkout = await Mirrors(tmp_path / "mirrors").refresh(launch, access(origin))
    assert checkout.base_commit == head
    assert checkout.settings == b"verify: make\n"


async def test_kept_work_is_gone_on_with_and_counts_from_where_it_left_the_base(
    tmp_path: Path, origin: Path
) -> None:
    launch = a_launch(resume=True, kept=True)
    left = run_git(origin, "rev-parse", "main").decode().strip()
    kept = commit(origin, {"half": "x"}, branch=launch.branch, parent="main", message="Half")
    commit(origin, {"other": "y"}, branch="main", parent="main", message="Meanwhile")
    checkout = await Mirrors(tmp_path / "mirrors").refresh(launch, access(origin))
    assert (checkout.start_commit, checkout.base_commit) == (kept, left)


async def test_kept_work_that_somebody_has_deleted_is_begun_again(
    tmp_path: Path, origin: Path
) -> None:
    launch = a_launch(resume=True, kept=True)
    head = run_git(origin, "rev-parse", "main").decode().strip()
    checkout = await Mirrors(tmp_path / "mirrors").refresh(launch, access(origin))
    assert (checkout.start_commit, checkout.base_commit) == (head, head)


async def test_a_branch_that_is_gone_leaves_its_objects(tmp_path: Path, origin: Path) -> None:
    mirrors = Mirrors(tmp_path / "mirrors")
    sha = commit(origin, {"x": "y"}, branch="side", message="Side")
    checkout = await mirrors.refresh(a_launch(), access(origin))
    run_git(origin, "branch", "-D", "side")
    await mirrors.refresh(a_launch(), access(origin))
    mirror = Git(checkout.mirror)
    assert await mirror.rev_parse("refs/heads/side") is None
    assert await mirror.rev_parse(sha) == sha


async def test_two_at_once_wait_for_each_other(tmp_path: Path, origin: Path) -> None:
    both = [Mirrors(tmp_path / "mirrors").refresh(a_launch(), access(origin)) for _ in range(3)]
    assert len({checkout.base_commit for checkout in await asyncio.gather(*both)}) == 1


async def test_what_a_killed_worker_left_locked_is_fetched_into_all_the_same(
    tmp_path: Path, origin: Path
) -> None:
    mirrors = Mirrors(tmp_path / "mirrors")
    mirror = (await mirrors.refresh(a_launch(), access(origin))).mirror
    head = commit(origin, {"x": "y"}, branch="main", parent="main")
    for name in ("config", "packed-refs", "refs/heads/main"):
        (mirror / f"{name}.lock").touch()
    assert (await mirrors.refresh(a_launch(), access(origin))).base_commit == head


async def test_everything_in_a_mirror_is_readable_for_containers(
    tmp_path: Path, origin: Path
) -> None:
    checkout = await Mirrors(tmp_path / "mirrors").refresh(a_launch(), access(origin))
    modes = {path: path.stat().st_mode for path in checkout.mirror.rglob("*")}
    assert all(mode & stat.S_IROTH for mode in modes.values())
    assert all(m & stat.S_IXOTH for p, m in modes.items() if p.is_dir())


@pytest.mark.parametrize("repo", ["../x", "acme/..", "acme/-x/../y", "a b/c"])
async def test_a_name_that_is_a_path_is_refused(tmp_path: Path, origin: Path, repo: str) -> None:
    with pytest.raises(WorkspaceError):
        await Mirrors(tmp_path / "mirrors").refresh(a_launch(repo=repo), access(origin))


async def test_a_missing_base_branch_is_said(tmp_path: Path, origin: Path) -> None:
    launch = a_launch(base_branch="trunk")
    with pytest.raises(WorkspaceError, match="no branch trunk"):
        await Mirrors(tmp_path / "mirrors").refresh(launch, access(origin))
