"""The fixed steps' commands, with real git."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner import steps
from runner.protocol import Launch
from tests.support.agent_container import a_launch
from tests.support.git_server import commit, run_git


class Workspace:
    """A directory in the place of /workspace, with a mirror in the place of /mirror."""

    def __init__(self, root: Path, launch: Launch) -> None:
        self.launch = launch
        self.path = root / "workspace"
        self.path.mkdir()
        self.mirror = root / "mirror.git"
        run_git(self.mirror, "init", "--bare", "--quiet", "--template=", "--initial-branch=main")
        self.base = commit(self.mirror, {"a.txt": "a"}, branch="main", message="Initial commit")

    def run(self, msg: dict[str, Any]) -> tuple[int, str]:
        argv = [word.replace("/mirror", str(self.mirror)) for word in msg["argv"]]
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.path.parent)}
        done = subprocess.run(
            argv,
            cwd=self.path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def git(self, *args: str) -> str:
        status, out = self.run({"argv": ["git", *args]})
        assert status == 0, out
        return out.strip()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path, a_launch(title="Fix it\nnow", requester="dana <d@x>"))
    status, out = made.run(steps.prepare(made.launch, made.base))
    assert status == 0, out
    return made


def test_the_workspace_is_the_base_commit_on_the_tasks_branch(workspace: Workspace) -> None:
    assert workspace.git("rev-parse", "HEAD") == workspace.base
    assert workspace.git("branch", "--show-current") == workspace.launch.branch
    assert workspace.git("rev-parse", "origin/main") == workspace.base
    assert (workspace.path / "a.txt").read_text() == "a"
    assert workspace.git("count-objects") == "0 objects, 0 kilobytes"


def test_an_untouched_workspace_has_no_change(workspace: Workspace) -> None:
    assert workspace.run(steps.probe(workspace.base))[0] == 0
    status, out = workspace.run(steps.commit(workspace.launch))
    assert (status, steps.head(out)) == (0, workspace.base)


@pytest.mark.parametrize("name", ["a.txt", "new/file.txt"])
def test_what_is_left_is_committed_with_who_asked(workspace: Workspace, name: str) -> None:
    (workspace.path / name).parent.mkdir(exist_ok=True)
    (workspace.path / name).write_text("changed")
    assert workspace.run(steps.probe(workspace.base))[0] == 1
    status, out = workspace.run(steps.commit(workspace.launch))
    assert status == 0
    assert steps.head(out) == workspace.git("rev-parse", "HEAD") != workspace.base
    message = workspace.git("log", "-1", "--format=%an <%ae>%n%B")
    assert message == ("Errand <errand@localhost>\nFix it now\n\nRequested-by: dana <d@x>")
    assert workspace.git("status", "--porcelain") == ""


def test_a_commit_of_the_agent_is_a_change(workspace: Workspace) -> None:
    workspace.git("commit", "-q", "--allow-empty", "-m", "mine")
    assert workspace.run(steps.probe(workspace.base))[0] == 1
    _, out = workspace.run(steps.commit(workspace.launch))
    assert steps.head(out) != workspace.base


def test_hooks_in_the_workspace_do_not_stop_our_commit(workspace: Workspace) -> None:
    hook = workspace.path / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    (workspace.path / "b.txt").write_text("b")
    assert workspace.run(steps.commit(workspace.launch))[0] == 0


def test_a_moved_mirror_changes_nothing(tmp_path: Path) -> None:
    made = Workspace(tmp_path, a_launch())
    commit(made.mirror, {"a.txt": "later"}, branch="main", message="Later")
    assert made.run(steps.prepare(made.launch, made.base))[0] == 0
    assert (made.path / "a.txt").read_text() == "a"
