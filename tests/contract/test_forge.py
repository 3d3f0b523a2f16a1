"""What is true of every forge."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from integrations.errors import AuthError, RejectedError, UnavailableError
from integrations.forge import Forge, GitAccess, Pull, PullDraft
from integrations.github.config import GitHubConfig
from integrations.github.forge import GitHubForge
from integrations.localforge.forge import LocalForge
from integrations.testing_forge import FakeForge, FakeRepo
from runner.git import Git
from tests.support.emulate import (
    GITHUB_TOKEN,
    REFUSED_GITHUB_TOKEN,
    Emulated,
    emulate,
    skip_or_fail,
)
from tests.support.git_server import commit, git_server

REPO = "acme/web"
FILES = {"README.md": "# web\n"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A forge with `acme/web` in it, and the same forge with a credential that is no longer accepted."""

    forge: Forge
    refused: Forge | None
    """None where there is no credential."""
    head: str
    """A branch that no other test has."""
    github_url: str = ""

    async def closed(self, pull: Pull) -> None:
        """Somebody does not want it."""
        match self.forge:
            case FakeForge():
                self.forge.close_pull(REPO, pull.number)
            case LocalForge():
                await self.forge.close_pull(REPO, pull.number)
            case GitHubForge():
                await self.as_person("PATCH", pull, json={"state": "closed"})
            case _:
                raise AssertionError(self.forge.name)

    async def merged(self, pull: Pull, git: Git, sha: str) -> None:
        """Somebody does."""
        match self.forge:
            case FakeForge():
                self.forge.merge_pull(REPO, pull.number)
            case LocalForge():
                url = (await self.forge.access(REPO, write=True)).url
                base = await git.rev_parse("refs/heads/main")
                await git.push(url, header=None, sha=sha, ref="refs/heads/main", expect=base)
            case GitHubForge():
                await self.as_person("PUT", pull, more="/merge", json={})
            case _:
                raise AssertionError(self.forge.name)

    async def as_person(
        self, method: str, pull: Pull, *, json: dict[str, str], more: str = ""
    ) -> None:
        url = f"{self.github_url}/repos/{REPO}/pulls/{pull.number}{more}"
        headers = {"Authorization": f"Bearer {GITHUB_TOKEN}"}
        async with httpx.AsyncClient() as http:
            answer = await http.request(method, url, json=json, headers=headers)
        assert answer.is_success, answer.text

    def draft(self) -> PullDraft:
        return PullDraft(repo=REPO, head=self.head, base="main", title="Fix it", body="It was off.")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def github_api() -> AsyncIterator[Emulated]:
    skip_or_fail()
    async with emulate(["github"]) as emulated:
        yield emulated


@pytest.fixture(params=["fake", "local", pytest.param("github", marks=pytest.mark.emulate)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def github_url(request: pytest.FixtureRequest, kind: str) -> str:
    """The emulators are started only for whom they are needed."""
    if kind != "github":
        return ""
    emulated: Emulated = request.getfixturevalue("github_api")
    return emulated.github_url


@pytest.fixture
async def case(kind: str, github_url: str, tmp_path: Path) -> AsyncIterator[Case]:
    head = f"errand/{uuid.uuid4().hex[:8]}-fix"
    with git_server(tmp_path / "server", token=GITHUB_TOKEN) as server:
        server.create(REPO, FILES)
        forge: Forge
        refused: Forge | None = None
        match kind:
            case "fake":
                repos = {
                    REPO: FakeRepo(
                        access=GitAccess(
                            url=f"{server.url}/{REPO}.git", header=SecretStr(server.header)
                        )
                    )
                }
                forge, refused = FakeForge(repos=repos), FakeForge(repos=repos, revoked=True)
            case "local":
                forge = LocalForge(tmp_path / "forge", "http://127.0.0.1:8080")
                await forge.create_repo(REPO, FILES)
            case _:
                urls = {"api_url": github_url, "git_url": server.url}
                forge, refused = (
                    GitHubForge(GitHubConfig(token=SecretStr(token), **urls))
                    for token in (GITHUB_TOKEN, REFUSED_GITHUB_TOKEN)
                )
        async with AsyncExitStack() as stack:
            stack.push_async_callback(forge.close)
            yield Case(forge=forge, refused=refused, head=head, github_url=github_url)


async def pushed(case: Case, directory: Path) -> tuple[Git, str]:
    """A branch with one more commit, brought there with the access that the forge gives."""
    git = await Git.init_bare(directory)
    access = await case.forge.access(REPO, write=True)
    header = access.header.get_secret_value() if access.header else None
    await git.fetch(access.url, header=header, refspecs=["+refs/heads/*:refs/heads/*"])
    sha = commit(git.git_dir, {"fix.txt": "fixed\n"}, branch="work", parent="main")
    await git.push(access.url, header=header, sha=sha, ref=f"refs/heads/{case.head}", expect=None)
    return git, sha


async def test_the_default_branch_is_told(case: Case) -> None:
    assert await case.forge.default_branch(REPO) == "main"


async def test_access_clones_and_pushes(case: Case, tmp_path: Path) -> None:
    git, sha = await pushed(case, tmp_path / "clone.git")
    access = await case.forge.access(REPO, write=False)
    header = access.header.get_secret_value() if access.header else None
    assert await git.ls_remote(access.url, header=header, ref=f"refs/heads/{case.head}") == sha
    assert await git.show("main", "README.md") == b"# web\n"


async def test_access_shows_its_credential_to_nobody(case: Case) -> None:
    access = await case.forge.access(REPO, write=True)
    if access.header is not None:
        secret = access.header.get_secret_value().rpartition(" ")[2]
        assert secret not in access.url
        assert secret not in repr(access)


async def test_a_pull_request_opened_twice_is_one(case: Case, tmp_path: Path) -> None:
    await pushed(case, tmp_path / "clone.git")
    first = await case.forge.open_pull(case.draft())
    second = await case.forge.open_pull(case.draft().model_copy(update={"title": "Another"}))
    assert first == second
    assert (first.head, first.base, first.open) == (case.head, "main", True)
    assert first.url.startswith("http")


async def test_an_open_pull_request_is_found_by_its_branch(case: Case, tmp_path: Path) -> None:
    await pushed(case, tmp_path / "clone.git")
    assert await case.forge.find_pull(REPO, head=case.head) is None
    opened = await case.forge.open_pull(case.draft())
    assert await case.forge.find_pull(REPO, head=case.head) == opened
    assert await case.forge.find_pull(REPO, head=f"{case.head}-more") is None


async def test_what_is_merged_and_what_is_closed_is_told(case: Case, tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(minutes=10)
    git, sha = await pushed(case, tmp_path / "clone.git")
    opened = await case.forge.open_pull(case.draft())
    assert opened.url not in [p.url for p in await case.forge.ended_pulls(REPO, since=before)]

    await case.closed(opened)
    [ended] = [p for p in await case.forge.ended_pulls(REPO, since=before) if p.url == opened.url]
    assert (ended.open, ended.merged) == (False, False)

    again = await case.forge.open_pull(case.draft())
    await case.merged(again, git, sha)
    [ended] = [p for p in await case.forge.ended_pulls(REPO, since=before) if p.url == again.url]
    assert (ended.open, ended.merged) == (False, True)
    found = await case.forge.find_pull(REPO, head=case.head)
    assert found is not None
    assert (found.number, found.open, found.merged) == (again.number, False, True)


@pytest.mark.parametrize("repo", ["acme/nothing", "nobody/web", "web", "../../etc/passwd"])
async def test_an_unknown_repository_is_refused(case: Case, repo: str) -> None:
    with pytest.raises(RejectedError):
        await case.forge.default_branch(repo)
    with pytest.raises(RejectedError):
        await case.forge.find_pull(repo, head="main")
    with pytest.raises(RejectedError):
        await case.forge.open_pull(case.draft().model_copy(update={"repo": repo}))


@pytest.mark.parametrize("kind", ["fake", pytest.param("github", marks=pytest.mark.emulate)])
async def test_a_bad_credential_is_told_apart(case: Case) -> None:
    assert case.refused is not None
    with pytest.raises(AuthError):
        await case.refused.open_pull(case.draft())


async def test_a_forge_that_works_has_no_problems(case: Case) -> None:
    assert await case.forge.check() == []


async def test_closing_twice_is_harmless(case: Case) -> None:
    await case.forge.close()
    await case.forge.close()


async def test_the_fake_fails_before_or_after_the_effect() -> None:
    forge = FakeForge(repos={REPO: FakeRepo(access=GitAccess(url="file:///nowhere"))})
    draft = PullDraft(repo=REPO, head="errand/1", base="main", title="Fix", body="")
    forge.fail(UnavailableError("fake", "before"))
    forge.fail(UnavailableError("fake", "after"), after=True)
    with pytest.raises(UnavailableError, match="before"):
        await forge.open_pull(draft)
    assert forge.drafts == []
    with pytest.raises(UnavailableError, match="after"):
        await forge.open_pull(draft)
    assert forge.drafts == [draft]
    forge.close_pull(REPO, 1)
    assert (await forge.open_pull(draft)).number == 2
