import os
import subprocess
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from policies.publish import judge
from policies.publish import rules_from_json as publish_rules
from runner.inside.errors import GitReadError
from runner.inside.gitread import GitRead
from runner.inside.quarantine import Quarantine, Target
from tests.contract.inside.programs import program
from tests.contract.inside.run import Run, lookup, policy, read_all, running

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.64.0.1"])

BRANCH = "errand/01-fix"
REPO = "acme/web"
OTHER_REPO = "acme/library"


def git(where: Path, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(where),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        **{f"GIT_{who}_{what}": "dana@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }  # fmt: skip
    return subprocess.run(
        ["/usr/bin/git", *args],
        cwd=where,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=check,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    path: Path
    quarantine: Path
    base: str
    run: Run

    def commit(self, files: dict[str, str], message: str = "work") -> str:
        for name, text in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        git(self.path, "add", "-A")
        git(self.path, "commit", "-q", "-m", message)
        return git(self.path, "rev-parse", "HEAD").stdout.strip()

    def push(self, *refspecs: str, repo: str = REPO) -> subprocess.CompletedProcess[str]:
        specs = refspecs or (f"HEAD:refs/heads/{BRANCH}",)
        return self.git("push", specs, repo=repo)

    def git(
        self, command: str, words: Sequence[str] = (), *, repo: str
    ) -> subprocess.CompletedProcess[str]:
        """To http://git.internal, by the address and port that stand for it in this test."""
        address = lookup("git.internal", port=self.run.dns)
        url = f"http://{address}:{self.run.ports[80]}/{repo}.git"
        config = ("-c", "http.extraHeader=Host: git.internal", "-c", "http.proxy=")
        return git(self.path, *config, command, url, *words, check=False)

    def head(self) -> str:
        ref = f"refs/heads/{BRANCH}"
        return git(self.quarantine, "rev-parse", "-q", "--verify", ref, check=False).stdout.strip()


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "-q", "-b", "main")
    (source / "README.md").write_text("hello\n")
    (source / ".github/workflows").mkdir(parents=True)
    (source / ".github/workflows/ci.yml").write_text("on: push\n")
    git(source, "add", "-A")
    git(source, "commit", "-q", "-m", "first")
    git(tmp_path, "clone", "-q", "--bare", str(source), "mirror.git")
    return tmp_path / "mirror.git"


@pytest.fixture
def workspace(tmp_path: Path, mirror: Path) -> Iterator[Workspace]:
    base = git(mirror, "rev-parse", "main").stdout.strip()
    path = tmp_path / "workspace"
    git(tmp_path, "clone", "-q", "--shared", str(mirror), str(path))
    where = tmp_path / "run"
    where.mkdir()
    other = tmp_path / "reads" / f"{OTHER_REPO}.git"
    git(tmp_path, "clone", "-q", "--bare", str(mirror), str(other))
    publish = {"protected": ["infra/**"], "max_files": 20}
    rules = policy(repo=REPO, branch=BRANCH, base=base, publish=publish, reads=[OTHER_REPO])
    args = (f"--mirror={mirror}", f"--reads={tmp_path / 'reads'}")
    with running(where, rules=rules, args=args) as run:
        quarantine = where / "quarantine" / "repo.git"
        yield Workspace(path=path, quarantine=quarantine, base=base, run=run)


def refused(workspace: Workspace, because: str, *refspecs: str) -> None:
    pushed = workspace.push(*refspecs)
    assert pushed.returncode != 0
    assert because in pushed.stderr
    assert workspace.head() == ""
    assert because in workspace.run.gateway.wait_line("push", verdict="refuse")["reason"]


def test_an_allowed_change_reaches_the_quarantine(workspace: Workspace) -> None:
    head = workspace.commit({"src/a.py": "print()\n"})
    pushed = workspace.push()
    assert pushed.returncode == 0, pushed.stderr
    assert workspace.head() == head
    said = workspace.run.gateway.wait_line("push")
    assert (said["verdict"], said["reason"], said["head"]) == ("accept", "", head)


def test_only_new_objects_travel(workspace: Workspace) -> None:
    workspace.commit({"a": "1"})
    assert workspace.push().returncode == 0
    listed = git(workspace.quarantine, "count-objects", "-v").stdout
    assert "count: 3" in listed


def test_a_branch_can_be_pushed_on(workspace: Workspace) -> None:
    workspace.commit({"a": "1"})
    workspace.push()
    head = workspace.commit({"a": "2"})
    assert workspace.push().returncode == 0
    assert workspace.head() == head


def test_pushing_the_same_again_changes_nothing(workspace: Workspace) -> None:
    head = workspace.commit({"a": "1"})
    assert workspace.push().returncode == workspace.push().returncode == 0
    assert workspace.head() == head


def test_a_large_push_in_chunks_is_taken(workspace: Workspace) -> None:
    blob = os.urandom(1_500_000).hex()
    head = workspace.commit({"big.txt": blob})
    pushed = workspace.push()
    assert pushed.returncode == 0, pushed.stderr
    assert workspace.head() == head


def test_history_cannot_be_rewritten(workspace: Workspace) -> None:
    head = workspace.commit({"a": "1"})
    workspace.push()
    git(workspace.path, "commit", "-q", "--amend", "-m", "other")
    pushed = workspace.push(f"+HEAD:refs/heads/{BRANCH}")
    assert "non-fast-forward" in pushed.stderr
    assert workspace.head() == head
    assert "non-fast-forward" in workspace.run.gateway.wait_line("push", verdict="refuse")["reason"]


@pytest.mark.parametrize(
    ("files", "because"),
    [
        ({".github/workflows/ci.yml": "on: [push]\n"}, ".github/workflows/ci.yml is protected"),
        ({"infra/main.tf": "x"}, "infra/main.tf is protected"),
        ({f"f{i}": "x" for i in range(30)}, "30 files"),
        ({"big": "ab" * 3_000_000}, "bytes"),
        ({".gitmodules": "[submodule]\n"}, ".gitmodules"),
    ],
)
def test_what_policy_forbids_is_refused_in_words(
    workspace: Workspace, files: dict[str, str], because: str
) -> None:
    workspace.commit(files)
    refused(workspace, because)


def test_a_link_that_leads_out_is_refused(workspace: Workspace) -> None:
    (workspace.path / "link").symlink_to("../../etc/passwd")
    workspace.commit({})
    refused(workspace, "leads out of the repository")


def test_a_submodule_is_refused(workspace: Workspace) -> None:
    entry = f"160000,{workspace.base},sub"
    git(workspace.path, "update-index", "--add", "--cacheinfo", entry)
    git(workspace.path, "commit", "-q", "-m", "sub")
    refused(workspace, "submodule")


def test_a_change_that_was_taken_back_counts_all_the_same(workspace: Workspace) -> None:
    workspace.commit({"infra/secret.tf": "x"})
    (workspace.path / "infra/secret.tf").unlink()
    workspace.commit({"a": "1"})
    refused(workspace, "infra/secret.tf is protected")


def test_another_branch_is_refused(workspace: Workspace) -> None:
    workspace.commit({"a": "1"})
    refused(workspace, f"Push to refs/heads/{BRANCH}", "HEAD:refs/heads/main")


def test_two_branches_at_once_are_refused(workspace: Workspace) -> None:
    workspace.commit({"a": "1"})
    refused(workspace, "2 refs", f"HEAD:refs/heads/{BRANCH}", "HEAD:refs/heads/other")


def test_foreign_history_is_refused(workspace: Workspace) -> None:
    git(workspace.path, "checkout", "-q", "--orphan", "fresh")
    workspace.commit({"a": "1"})
    refused(workspace, "do not descend")


def test_the_base_cannot_be_moved_or_deleted(workspace: Workspace) -> None:
    workspace.commit({"a": "1"})
    refused(workspace, "Push to", "HEAD:refs/errand/base")
    assert workspace.push(":refs/errand/base").returncode != 0
    found = git(workspace.quarantine, "rev-parse", "refs/errand/base").stdout.strip()
    assert found == workspace.base


def test_a_refused_push_can_be_mended(workspace: Workspace) -> None:
    workspace.commit({"infra/a": "1"})
    refused(workspace, "is protected")
    git(workspace.path, "reset", "-q", "--hard", workspace.base)
    head = workspace.commit({"a": "1"})
    assert workspace.push().returncode == 0
    assert workspace.head() == head


def test_another_repository_is_not_there(workspace: Workspace) -> None:
    workspace.commit({"a": "1"})
    assert "not found" in workspace.push(repo="acme/other").stderr


def ask(workspace: Workspace, raw: str, body: bytes = b"") -> bytes:
    with workspace.run.connect("git.internal", 80) as sock:
        sock.sendall(raw.replace("\n", "\r\n").encode() + body)
        return read_all(sock)


HEAD = "{} HTTP/1.1\nHost: git.internal\n{}\n"
RECEIVE = f"POST /{REPO}.git/git-receive-pack"
KIND = "Content-Type: application/x-git-receive-pack-request\n"
UPLOAD = f"POST /{REPO}.git/git-upload-pack"
WANTS = "Content-Type: application/x-git-upload-pack-request\n"


@pytest.mark.parametrize(
    ("first", "headers", "status"),
    [
        ("GET /acme/secret.git/info/refs?service=git-upload-pack", "", b"403"),
        ("GET /acme/..%2Fweb.git/info/refs?service=git-upload-pack", "", b"403"),
        ("GET /acme/../web.git/info/refs?service=git-upload-pack", "", b"400"),
        ("POST /acme/secret.git/git-upload-pack", "Content-Length: 0\n", b"403"),
        (f"PUT /{REPO}.git/git-upload-pack", "Content-Length: 0\n", b"405"),
        (f"POST /{REPO}.git/git-upload-pack", "Content-Length: 0\n", b"415"),
        (f"{UPLOAD}", f"{WANTS}Content-Encoding: br\nContent-Length: 0\n", b"415"),
        (f"GET /{REPO}.git/info/refs", "", b"404"),
        (f"POST /{OTHER_REPO}.git/git-receive-pack", "Content-Length: 0\n", b"404"),
        (f"GET /{REPO}.git/HEAD", "", b"404"),
        (f"GET /{REPO}.git/../{REPO}.git/config", "", b"400"),
        ("GET /", "", b"404"),
        (RECEIVE, f"{KIND}Content-Encoding: gzip\nContent-Length: 0\n", b"415"),
        (RECEIVE, "Content-Length: 0\n", b"415"),
        (RECEIVE, f"{KIND}Content-Length: 1\nTransfer-Encoding: chunked\n", b"400"),
    ],
)
def test_nothing_but_git_is_served(
    workspace: Workspace, first: str, headers: str, status: bytes
) -> None:
    assert ask(workspace, HEAD.format(first, headers)).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("repo", [REPO, OTHER_REPO])
def test_what_may_be_read_can_be_fetched_and_is_on_record(workspace: Workspace, repo: str) -> None:
    git(workspace.path, "init", "-q", "--bare", "fresh.git")
    fetched = replace(workspace, path=workspace.path / "fresh.git").git(
        "fetch", ["main"], repo=repo
    )
    assert fetched.returncode == 0, fetched.stderr
    found = git(workspace.path / "fresh.git", "rev-parse", "FETCH_HEAD").stdout.strip()
    assert found == workspace.base
    said = workspace.run.gateway.wait_line("decision", verdict="allow", host="git.internal")
    assert (said["path"], said["rule"]) == (f"/{repo}.git", "reads")


def test_a_fetch_with_much_to_say_is_answered(workspace: Workspace) -> None:
    """Git packs a long request as gzip."""
    for number in range(60):
        workspace.commit({"a": str(number)})
    git(workspace.path, "update-ref", "-d", "refs/remotes/origin/main")
    head = git(workspace.path, "commit-tree", "-m", "news", "-p", workspace.base, "HEAD^{tree}")
    mirror = workspace.quarantine.parents[2] / "mirror.git"
    new = head.stdout.strip()
    git(mirror, "fetch", "-q", str(workspace.path), f"{new}:refs/heads/news", "-u", check=False)
    git(workspace.path, "push", "-q", str(mirror), f"{new}:refs/heads/news")
    assert workspace.git("fetch", ["news"], repo=REPO).returncode == 0
    assert git(workspace.path, "rev-parse", "FETCH_HEAD").stdout.strip() == new


def test_what_may_not_be_read_is_refused_and_on_record(workspace: Workspace) -> None:
    fetched = workspace.git("fetch", repo="acme/secret")
    assert "403" in fetched.stderr
    said = workspace.run.gateway.wait_line("decision", verdict="deny")
    assert said["reason"] == "acme/secret is not among the repositories that this run may read"
    assert said["rule"] == "reads"


@pytest.mark.parametrize(
    "body", [b"no gzip", zlib.compress(b"0" * 100, wbits=31)[:20], zlib.compress(bytes(40_000_000), wbits=31)]
)  # fmt: skip
def test_a_broken_or_swollen_request_ends_the_connection_only(
    workspace: Workspace, body: bytes
) -> None:
    headers = f"{WANTS}Content-Encoding: gzip\nContent-Length: {len(body)}\n"
    assert b"PACK" not in ask(workspace, HEAD.format(UPLOAD, headers), body)
    assert workspace.git("fetch", ["main"], repo=REPO).returncode == 0


def test_a_request_for_another_host_is_not_served(workspace: Workspace) -> None:
    raw = f"GET /{REPO}.git/info/refs?service=git-receive-pack HTTP/1.1\nHost: a.example.com\n\n"
    assert ask(workspace, raw).startswith(b"HTTP/1.1 404")


def test_a_trial_with_nothing_in_it_is_no_push(workspace: Workspace) -> None:
    headers = f"{KIND}Content-Length: 4\nExpect: 100-continue\n"
    reply = ask(workspace, HEAD.format(RECEIVE, headers), b"0000")
    assert reply.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
    assert not workspace.run.gateway.kinds("push")


def test_a_push_that_breaks_off_leaves_nothing(workspace: Workspace) -> None:
    with workspace.run.connect("git.internal", 80) as sock:
        raw = HEAD.format(RECEIVE, f"{KIND}Content-Length: 100000\n").replace("\n", "\r\n")
        sock.sendall(raw.encode() + b"00a8")
    head = workspace.commit({"a": "1"})
    assert workspace.push().returncode == 0
    assert workspace.head() == head


def test_pushes_at_once_take_turns(workspace: Workspace) -> None:
    head = workspace.commit({"a": "1"})
    threads = [threading.Thread(target=workspace.push) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert workspace.head() == head


def test_the_host_reads_the_same_change(workspace: Workspace) -> None:
    head = workspace.commit({"src/a.py": "print()\n", "README.md": "bye\n"})
    assert workspace.push().returncode == 0
    read = GitRead(workspace.quarantine)
    change = read.change(base=workspace.base, head=head, refs=("refs/heads/x",))
    assert [entry.path for entry in change.entries] == [b"README.md", b"src/a.py"]
    assert (change.commits, change.total_bytes, change.descends) == (1, 12, True)
    rules = publish_rules({})
    assert rules is not None
    assert judge(change, limits=rules) == ()


def test_a_quarantine_that_cannot_run_its_hook_is_not_opened(tmp_path: Path, mirror: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    base = git(mirror, "rev-parse", "main").stdout.strip()
    quarantine = Quarantine(state=state, mirror=mirror, code=tmp_path)
    rules = publish_rules({})
    assert rules is not None
    with pytest.raises(GitReadError, match="hook cannot run"):
        quarantine.open(Target(repo=REPO, branch=BRANCH, base=base), rules=rules)


def test_a_base_that_is_not_there_ends_the_gateway(tmp_path: Path, mirror: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    args = (f"--socket={tmp_path}/s", f"--state={state}", f"--mirror={mirror}")
    with program("runner.inside.gateway", *args) as gateway:
        gateway.send("p", policy(repo=REPO, branch=BRANCH, base="0" * 39 + "1", publish={}))
        assert gateway.ended() == 70
        assert "the quarantine cannot be made" in gateway.lines[-1]["reason"]
