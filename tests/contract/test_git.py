"""Host-side git against a real server: what it lets through, what it never shows, how it ends."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.git import (
    FileDiff,
    Git,
    GitAuthError,
    GitError,
    PushRejectedError,
    RemoteUnavailableError,
)
from runner.gitprocess import execute
from tests.support.git_server import GitServer, commit, git_server, run_git

REPO = "acme/web"
BRANCH = "refs/heads/errand/1-fix"
ALL = ["+refs/heads/*:refs/heads/*"]
WRONG = "Authorization: Basic eC1hY2Nlc3MtdG9rZW46d3Jvbmctc2VjcmV0"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path / "server") as server:
        server.create(REPO, {"README.md": "# web\n", "gone.txt": "1\n2\n"})
        yield server


@pytest.fixture
def url(server: GitServer) -> str:
    return f"{server.url}/{REPO}.git"


@pytest.fixture
async def git(tmp_path: Path, server: GitServer, url: str) -> Git:
    git = await Git.init_bare(tmp_path / "clone.git")
    await git.fetch(url, header=server.header, refspecs=ALL, prune=True)
    return git


def changed(git: Git, text: str = "fixed\n", parent: str = "main") -> str:
    return commit(git.git_dir, {"fix.txt": text}, branch="work", parent=parent)


async def test_a_branch_that_is_gone_is_pruned(git: Git, server: GitServer, url: str) -> None:
    commit(server.git_dir(REPO), {"a": "b"}, branch="old", parent="main")
    await git.fetch(url, header=server.header, refspecs=ALL)
    assert await git.rev_parse("refs/heads/old")
    run_git(server.git_dir(REPO), "update-ref", "-d", "refs/heads/old")
    await git.fetch(url, header=server.header, refspecs=ALL, prune=True)
    assert await git.rev_parse("refs/heads/old") is None


async def test_a_push_is_safe_twice(git: Git, server: GitServer, url: str) -> None:
    sha = changed(git)
    for _ in range(2):
        await git.push(url, header=server.header, sha=sha, ref=BRANCH, expect=None)
    assert server.sha(REPO, "errand/1-fix") == sha
    assert len(server.pushes()) == 1


async def test_a_push_over_somebody_elses_work_is_refused(
    git: Git, server: GitServer, url: str
) -> None:
    theirs = commit(server.git_dir(REPO), {"x": "theirs"}, branch="errand/1-fix", parent="main")
    for expect in (None, await git.rev_parse("main")):
        with pytest.raises(PushRejectedError, match="stale info"):
            await git.push(url, header=server.header, sha=changed(git), ref=BRANCH, expect=expect)
    assert server.sha(REPO, "errand/1-fix") == theirs


async def test_our_own_branch_may_be_rewritten(git: Git, server: GitServer, url: str) -> None:
    first, second = changed(git, "one\n"), changed(git, "two\n")
    await git.push(url, header=server.header, sha=first, ref=BRANCH, expect=None)
    await git.push(url, header=server.header, sha=second, ref=BRANCH, expect=first)
    assert server.sha(REPO, "errand/1-fix") == second


async def test_a_hook_of_the_remote_that_declines_is_a_refusal(
    git: Git, server: GitServer, url: str
) -> None:
    hook = server.git_dir(REPO) / "hooks" / "pre-receive"
    await asyncio.to_thread(hook.parent.mkdir)
    await asyncio.to_thread(hook.write_text, "#!/bin/sh\necho no thanks >&2\nexit 1\n")
    await asyncio.to_thread(hook.chmod, 0o755)
    with pytest.raises(PushRejectedError, match="no thanks"):
        await git.push(url, header=server.header, sha=changed(git), ref=BRANCH, expect=None)


async def test_a_cut_line_is_an_unknown_outcome_that_can_be_looked_up(
    git: Git, server: GitServer, url: str
) -> None:
    server.cuts.append("within")
    sha = changed(git)
    with pytest.raises(RemoteUnavailableError):
        await git.push(url, header=server.header, sha=sha, ref=BRANCH, expect=None)
    assert await git.ls_remote(url, header=server.header, ref=BRANCH) == sha


async def test_a_push_that_lost_to_itself_has_won(git: Git, server: GitServer, url: str) -> None:
    server.cuts.append("before")
    sha = changed(git)
    await git.push(url, header=server.header, sha=sha, ref=BRANCH, expect=None)
    assert server.sha(REPO, "errand/1-fix") == sha
    assert len(server.pushes()) > 1


async def test_a_server_in_trouble_is_not_a_refusal(git: Git, server: GitServer, url: str) -> None:
    server.errors.append(503)
    with pytest.raises(RemoteUnavailableError):
        await git.ls_remote(url, header=server.header, ref=BRANCH)
    with pytest.raises(RemoteUnavailableError):
        await git.ls_remote("http://127.0.0.1:1/x.git", header=None, ref=BRANCH)


async def test_a_bad_credential_asks_nobody_and_is_shown_nowhere(git: Git, url: str) -> None:
    with pytest.raises(GitError) as raised:
        await git.ls_remote(url, header=WRONG, ref=BRANCH)
    assert not isinstance(raised.value, RemoteUnavailableError)
    assert "eC1hY2Nlc3" not in f"{raised.value} {raised.value.tail}"


@pytest.mark.parametrize("header", [WRONG, None])
async def test_a_credential_that_is_not_accepted_is_told_from_other_failures(
    git: Git, url: str, header: str | None
) -> None:
    sha = changed(git)
    for call in (
        git.ls_remote(url, header=header, ref=BRANCH),
        git.fetch(url, header=header, refspecs=ALL),
        git.push(url, header=header, sha=sha, ref=BRANCH, expect=None),
    ):
        with pytest.raises(GitAuthError) as raised:
            await call
        assert raised.value.refusal.startswith("could not read Username for 'http://127.0.0.1")


@pytest.mark.parametrize(("status", "refused"), [(401, True), (403, True), (404, False)])
async def test_a_credential_may_be_refused_for_one_repository(
    git: Git, server: GitServer, url: str, *, status: int, refused: bool
) -> None:
    server.errors.append(status)
    with pytest.raises(GitError) as raised:
        await git.ls_remote(url, header=server.header, ref=BRANCH)
    assert isinstance(raised.value, GitAuthError) is refused


async def test_words_of_the_remote_are_no_refusal_of_the_credential(
    git: Git, server: GitServer, url: str
) -> None:
    hook = server.git_dir(REPO) / "hooks" / "pre-receive"
    await asyncio.to_thread(hook.parent.mkdir)
    said = "fatal: Authentication failed"
    await asyncio.to_thread(hook.write_text, f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    await asyncio.to_thread(hook.chmod, 0o755)
    with pytest.raises(PushRejectedError, match=said):
        await git.push(url, header=server.header, sha=changed(git), ref=BRANCH, expect=None)


async def test_the_credential_goes_to_its_repository_only(
    git: Git, server: GitServer, url: str
) -> None:
    elsewhere = f"{server.url}/acme/other.git"
    server.create("acme/other", {"a": "b"})
    with pytest.raises(GitError):
        await git.run("ls-remote", elsewhere, url=url, header=server.header)


async def test_a_redirect_is_not_followed(git: Git, server: GitServer) -> None:
    server.errors.append(301)
    with pytest.raises(GitError):
        await git.ls_remote(f"{server.url}/{REPO}.git", header=server.header, ref=BRANCH)


@pytest.mark.parametrize(
    "address", ["ssh://host/x", "ext::sh -c true", "git://h/x", "https://u:p@h/x", "/etc", "-x"]
)
async def test_no_other_protocol_and_no_credential_in_a_url(git: Git, address: str) -> None:
    with pytest.raises(GitError):
        await git.fetch(address, header=None, refspecs=ALL)


async def test_a_url_opens_its_own_protocol_only(git: Git, server: GitServer, url: str) -> None:
    with pytest.raises(GitError, match="not allowed"):
        await git.run("ls-remote", server.git_dir(REPO).as_uri(), url=url)


@pytest.mark.parametrize("name", ["--upload-pack=touch x", "-x", "a b", "", "a\nb"])
async def test_a_name_is_never_an_option(git: Git, name: str) -> None:
    with pytest.raises(GitError, match="not a name"):
        await git.rev_parse(name)


async def test_nobodys_configuration_counts(git: Git) -> None:
    listed = (await git.run("config", "--list", "--show-scope")).decode()
    assert {line.split("\t")[0] for line in listed.splitlines()} == {"local", "command"}
    assert str(Path.home()) not in (await git.run("var", "-l")).decode()


async def test_files_are_shown_within_a_limit(git: Git) -> None:
    assert await git.show("main", "README.md") == b"# web\n"
    assert await git.show("main", "nothing") is None
    assert await git.show("main", "READ*") is None
    with pytest.raises(GitError, match="more than 3 bytes"):
        await git.show("main", "README.md", max_bytes=3)


async def test_a_symlink_is_no_file(git: Git) -> None:
    stream = "commit refs/heads/work\ncommitter D <d@x.example> 1 +0000\ndata 0\n"
    stream += "M 120000 inline .errand.yml\ndata 11\n/etc/passwd\n"
    run_git(git.git_dir, "fast-import", "--quiet", stdin=stream.encode())
    assert await git.show("work", ".errand.yml") is None


async def test_what_changed_is_counted_from_where_the_branch_left(git: Git) -> None:
    commit(git.git_dir, {"fix.txt": "a\nb\n", "gone.txt": "1\n"}, branch="work", parent="main")
    commit(git.git_dir, {"later.txt": "x\n"}, branch="main", parent="main")
    assert await git.numstat("main", "work") == (
        FileDiff("fix.txt", 2, 0),
        FileDiff("gone.txt", 0, 1),
    )
    assert not await git.is_ancestor("main", "work")
    assert await git.is_ancestor("main~1", "work")
    with pytest.raises(GitError):
        await git.is_ancestor("main", "nowhere")


async def test_odd_names_and_what_is_no_text_are_told_as_they_are(git: Git) -> None:
    stream = "commit refs/heads/work\ncommitter D <d@x.example> 1 +0000\ndata 0\n"
    stream += "from refs/heads/main^0\n"
    stream += 'M 100644 inline "a\\tb \\303\\251.bin"\ndata 3\n\0\0\n\n'
    run_git(git.git_dir, "fast-import", "--quiet", stdin=stream.encode())
    assert await git.numstat("main", "work") == (FileDiff("a\tb é.bin", None, None),)


async def bundle(git: Git, file: Path, *revisions: str) -> Path:
    await git.run("bundle", "create", "--quiet", str(file), *revisions)
    return file


async def test_a_bundle_brings_its_commits(git: Git, tmp_path: Path) -> None:
    sha = changed(git)
    file = await bundle(git, tmp_path / "x.bundle", "main..work")
    clean = await Git.init_bare(tmp_path / "clean.git")
    await clean.fetch(
        git.git_dir.as_uri(), header=None, refspecs=["refs/heads/main:refs/heads/main"]
    )
    for _ in range(2):
        taken = await clean.fetch_bundle(
            file, ref="refs/heads/work", into="refs/quarantine/1", max_bytes=100_000
        )
        assert taken == sha == await clean.rev_parse("refs/quarantine/1")
    assert [(d.added, d.removed) for d in await clean.numstat("main", "refs/quarantine/1")] == [
        (1, 0)
    ]


@pytest.mark.parametrize(
    ("ref", "max_bytes"), [("refs/heads/work", 10), ("refs/heads/other", 100_000)]
)
async def test_a_bundle_is_limited_in_size_and_names(
    git: Git, tmp_path: Path, ref: str, max_bytes: int
) -> None:
    changed(git)
    file = await bundle(git, tmp_path / "x.bundle", "main..work")
    with pytest.raises(GitError):
        await git.fetch_bundle(file, ref=ref, into="refs/quarantine/1", max_bytes=max_bytes)
    assert await git.rev_parse("refs/quarantine/1") is None


async def test_a_bundle_without_its_base_is_refused(git: Git, tmp_path: Path) -> None:
    changed(git)
    file = await bundle(git, tmp_path / "x.bundle", "main..work")
    empty = await Git.init_bare(tmp_path / "empty.git")
    with pytest.raises(GitError):
        await empty.fetch_bundle(
            file, ref="refs/heads/work", into="refs/quarantine/1", max_bytes=100_000
        )


async def test_objects_that_fsck_rejects_do_not_enter(git: Git, tmp_path: Path) -> None:
    """A tree that holds `.git`: git before 2.46 takes it from a bundle without a word."""
    blob = (await git.run("hash-object", "-w", "--stdin", input=b"x")).strip()
    inner = (await git.run("mktree", input=b"100644 blob %b\tconfig\n" % blob)).strip()
    raw = b"40000 .git\0" + bytes.fromhex(inner.decode())
    tree = (
        await git.run("hash-object", "-w", "-t", "tree", "--literally", "--stdin", input=raw)
    ).strip()
    body = (
        b"tree %b\nauthor D <d@x.example> 1 +0000\ncommitter D <d@x.example> 1 +0000\n\nx\n" % tree
    )
    sha = (await git.run("hash-object", "-w", "-t", "commit", "--stdin", input=body)).strip()
    await git.run("update-ref", "refs/heads/evil", sha.decode())
    file = await bundle(git, tmp_path / "x.bundle", "refs/heads/evil")
    with pytest.raises(GitError, match=r"fsck|hasDotgit"):
        await git.fetch_bundle(
            file, ref="refs/heads/evil", into="refs/quarantine/1", max_bytes=100_000
        )
    assert await git.rev_parse("refs/quarantine/1") is None


async def test_too_long_ends_the_whole_group(tmp_path: Path) -> None:
    child = tmp_path / "child"
    outcome = await execute(
        ["sh", "-c", f"sleep 60 & echo $! > {child}; wait"],
        environment={}, stdin=None, timeout=0.5, max_output=10,
    )  # fmt: skip
    assert (outcome.status, outcome.tail) == (None, "no end after 0.5 s")
    assert not await alive(int(await asyncio.to_thread(child.read_text)))


async def test_cancelling_ends_the_whole_group(tmp_path: Path) -> None:
    child = tmp_path / "child"
    await asyncio.to_thread(os.mkfifo, child)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        running = group.create_task(
            execute(
                ["sh", "-c", f"sleep 60 & echo $! > {child}; wait"],
                environment={}, stdin=None, timeout=60, max_output=10,
            )
        )  # fmt: skip
        pid = int(await asyncio.to_thread(child.read_text))
        running.cancel()
    assert not await alive(pid)


async def alive(pid: int) -> bool:
    """Whether it still runs a moment after its group was killed (a zombie does not)."""

    def state() -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return "X"

    async with asyncio.timeout(5):
        while await asyncio.to_thread(state) not in "XZ":  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0)  # the kernel tells nobody but the parent
    return False


async def test_too_much_output_ends_it() -> None:
    outcome = await execute(
        ["sh", "-c", "yes"], environment={}, stdin=None, timeout=20, max_output=1000
    )
    assert (outcome.status, outcome.stdout) == (None, b"")


async def test_a_program_that_is_not_there_is_an_outcome() -> None:
    outcome = await execute(
        ["no-such-program"], environment={}, stdin=None, timeout=5, max_output=10
    )
    assert "cannot start" in outcome.tail
