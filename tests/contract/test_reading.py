"""What is true of every forge that is read, for what all of them have: pull requests."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from integrations.errors import RejectedError
from integrations.forge import PullDraft
from integrations.github.config import GitHubConfig
from integrations.github.forge import GitHubForge
from integrations.github.reading import GitHubReading
from integrations.localforge.forge import LocalForge
from integrations.localforge.reading import LocalReading
from integrations.reading import Reading
from integrations.testing_forge import FakeReading
from tests.support.discussions import A_PULL
from tests.support.emulate import GITHUB_TOKEN, Emulated, emulate, skip_or_fail
from tests.support.git_server import commit

REPO = "acme/web"
FILES = {"README.md": "# web\n"}
DRAFT = PullDraft(repo=REPO, head="errand/7-fix", base="main", title=A_PULL.title, body=A_PULL.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    reading: Reading
    number: int
    """A pull request that is there."""


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
async def case(kind: str, github_url: str, tmp_path: Path) -> Case:
    match kind:
        case "fake":
            return Case(reading=FakeReading(pulls={(REPO, 7): A_PULL}), number=7)
        case "local":
            return await _local(tmp_path)
        case _:
            return await _github(github_url)


async def _local(folder: Path) -> Case:
    forge = LocalForge(folder, "http://127.0.0.1:8080")
    await forge.create_repo(REPO, FILES)
    await forge.create_repo("acme/other", FILES)
    pushed = folder / f"{REPO}.git"
    commit(pushed, {"fix.txt": "fixed\n"}, branch=DRAFT.head, parent="main")
    pull = await forge.open_pull(DRAFT)
    return Case(reading=LocalReading(folder, "http://127.0.0.1:8080"), number=pull.number)


async def _github(url: str) -> Case:
    config = GitHubConfig(token=SecretStr(GITHUB_TOKEN), api_url=url)
    pull = await GitHubForge(config).open_pull(DRAFT)
    return Case(reading=GitHubReading(config), number=pull.number)


async def test_a_pull_request_is_read(case: Case) -> None:
    found = await case.reading.pull(REPO, case.number, comments=False)
    assert (found.number, found.title, found.body) == (case.number, DRAFT.title, DRAFT.body)
    assert (found.state, found.branches) == ("open", (DRAFT.head, DRAFT.base))
    assert found.comments == ()


@pytest.mark.parametrize(("repo", "number"), [(REPO, 9999), ("acme/nothing", 1)])
async def test_what_is_not_there_is_refused(case: Case, repo: str, number: int) -> None:
    with pytest.raises(RejectedError):
        await case.reading.pull(repo, number, comments=False)
    with pytest.raises(RejectedError):
        await case.reading.issue(repo, number, comments=False)


async def test_the_local_forge_gives_a_patch_and_has_no_checks(tmp_path: Path) -> None:
    case = await _local(tmp_path)
    assert "+fixed" in await case.reading.diff(REPO, case.number)
    assert await case.reading.checks(REPO, case.number) == []
