import pytest

from runner.docker.quarantine import bundle_command
from runner.errors import SandboxLostError

BASE = "0" * 40


def test_a_bundle_is_of_the_branch_from_its_base() -> None:
    command = bundle_command(base=BASE, branch="errand/t1-fix")
    assert command[0] == "git"
    assert command[-2:] == ["-", f"{BASE}..refs/heads/errand/t1-fix"]


@pytest.mark.parametrize(
    ("base", "branch"),
    [
        ("main", "errand/x"),
        ("--all", "errand/x"),
        (BASE + "\n", "errand/x"),
        (BASE, ""),
        (BASE, "-x"),
        (BASE, "a..b"),
        (BASE, "a b"),
        (BASE, "x\n"),
    ],
)
def test_what_is_no_commit_or_no_branch_reaches_no_git(base: str, branch: str) -> None:
    with pytest.raises(SandboxLostError):
        bundle_command(base=base, branch=branch)
