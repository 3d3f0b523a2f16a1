"""Pushes that want to get further than their branch."""

import re

import pytest

from tests.adversarial import pushes
from tests.contract.inside.programs import ROOT
from tests.contract.inside.run import read_all
from tests.contract.inside.test_push import REPO, Workspace, git

pytestmark = [
    pytest.mark.allow_hosts(["127.0.0.1", "127.64.0.1"]),
    pytest.mark.timeout(120),
]


def made(workspace: Workspace, case: pushes.PushCase) -> None:
    """The commit, whatever the client's own git would have said to it."""
    for name, target in case.links.items():
        path = workspace.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    if case.gitlink:
        entry = f"160000,{workspace.base},{case.gitlink}"
        git(workspace.path, "update-index", "--add", "--cacheinfo", entry)
        git(workspace.path, "commit", "-q", "-m", case.message)
    else:
        workspace.commit(dict(case.files), case.message)


@pytest.mark.parametrize("case", pushes.REFUSED, ids=lambda case: case.id)
def test_a_push_that_wants_more_is_refused(workspace: Workspace, case: pushes.PushCase) -> None:
    made(workspace, case)
    pushed = workspace.push(*case.to)
    assert pushed.returncode != 0
    assert case.record in pushed.stderr or "fsck" in case.record
    said = workspace.run.gateway.wait_line("push", verdict="refuse")
    assert case.record in said["reason"]
    assert workspace.head() == ""
    refs = git(workspace.quarantine, "for-each-ref", "--format=%(refname)").stdout.split()
    assert refs == ["refs/errand/base"]


def test_the_host_has_no_checkout_that_could_be_left() -> None:
    """67, 68: no git command of ours applies, checks out, or follows a submodule."""
    sources = "".join(path.read_text() for path in (ROOT / "runner").glob("*.py"))
    commands = re.findall(r'\.run\(\s*"([a-z-]+)"|_git\(\s*"([a-z-]+)"', sources)
    used = {name for pair in commands for name in pair if name}
    assert used
    assert not used & {
        "apply",
        "am",
        "checkout",
        "switch",
        "worktree",
        "submodule",
        "clone",
        "pull",
    }


@pytest.mark.parametrize(
    "line",
    [
        f"PUT /{REPO}.git/hooks/pre-receive", f"GET /{REPO}.git/config", f"PUT /{REPO}.git/objects/info/alternates",
        f"PROPFIND /{REPO}.git/", f"GET /{REPO}.git/objects/info/packs", f"POST /{REPO}.git/git-upload-archive",
        f"GET /{REPO}.git/info/refs?service=git-upload-archive", f"MKCOL /{REPO}.git/hooks",
    ],
)  # fmt: skip
def test_only_objects_and_refs_travel(workspace: Workspace, line: str) -> None:
    before = sorted(workspace.quarantine.iterdir())
    with workspace.run.connect("git.internal", 80) as sock:
        head = f"{line} HTTP/1.1\r\nHost: git.internal\r\nContent-Length: 2\r\n\r\nid"
        sock.sendall(head.encode())
        assert read_all(sock).startswith(b"HTTP/1.1 404")
    said = workspace.run.gateway.wait_line("decision", verdict="deny", host="git.internal")
    assert pushes.HOOKS.record in said["reason"]
    assert sorted(workspace.quarantine.iterdir()) == before
