"""The local forge beyond the port: its repositories, its numbers, and its pages."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from integrations.errors import RejectedError
from integrations.forge import PullDraft
from integrations.localforge.forge import LocalForge
from integrations.localforge.pulls import Pulls
from integrations.localforge.repository import Repository
from tests.support.git_server import commit, run_git

REPO = "acme/web"
FILES = {"README.md": "# web\n", "bin/run": "#!/bin/sh\nexit 0\n", "src/a.txt": "one\ntwo\n"}
HOSTILE = "<script>alert('x')</script> {{ 7*7 }} \x1f\x0b\u202e </style> \" onload=\""
DRAFT = PullDraft(repo=REPO, head="errand/1-fix", base="main", title="Fix it", body="Why:\n- off")


@pytest.fixture
async def forge(tmp_path: Path) -> LocalForge:
    forge = LocalForge(tmp_path / "forge", "http://127.0.0.1:8080/")
    await forge.create_repo(REPO, FILES)
    return forge


@pytest.fixture
async def git_dir(forge: LocalForge) -> Path:
    access = await forge.access(REPO, write=True)
    return Path(access.url.removeprefix("file://"))


async def page(forge: LocalForge, path: str) -> httpx.Response:
    app = FastAPI()
    router = forge.routes()
    assert router is not None
    app.include_router(router)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.get(path)


def test_a_new_repository_has_the_files_and_keeps_scripts_executable(git_dir: Path) -> None:
    listed = run_git(git_dir, "ls-tree", "-r", "--format=%(objectmode) %(path)", "main").decode()
    assert listed.split("\n")[:3] == ["100644 README.md", "100755 bin/run", "100644 src/a.txt"]


async def test_creating_a_repository_again_changes_nothing(
    forge: LocalForge, git_dir: Path
) -> None:
    before = run_git(git_dir, "rev-parse", "main")
    await forge.create_repo(REPO, {"other": "x"})
    assert run_git(git_dir, "rev-parse", "main") == before


def test_repositories_made_at_the_same_time_are_one(tmp_path: Path) -> None:
    start = threading.Barrier(4)

    def create(number: int) -> None:
        start.wait(10)
        repository = Repository(tmp_path, REPO)
        repository.create({"n": str(number)}, branch="main", message="First")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(4)))
    assert run_git(tmp_path / "acme/web.git", "rev-list", "--count", "main") == b"1\n"
    assert [path.name for path in (tmp_path / "acme").iterdir()] == ["web.git"]


def test_pull_requests_opened_at_the_same_time_are_one(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def open_one(number: int) -> int:
        start.wait(10)
        head = f"errand/{number % 2}"
        return Pulls(tmp_path / "forge.db").open_one(DRAFT.model_copy(update={"head": head})).number

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(open_one, range(8)))
    assert sorted(numbers) == [1, 1, 1, 1, 2, 2, 2, 2]


async def test_after_a_closed_pull_request_comes_a_new_one(
    forge: LocalForge, git_dir: Path
) -> None:
    commit(git_dir, {"a": "b"}, branch=DRAFT.head, parent="main")
    first = await forge.open_pull(DRAFT)
    await forge.close_pull(REPO, first.number)
    found = await forge.find_pull(REPO, head=DRAFT.head)
    assert found is not None
    assert (found.number, found.open) == (1, False)
    assert (await forge.open_pull(DRAFT)).number == 2


@pytest.mark.parametrize("branch", ["head", "base"])
async def test_a_pull_request_needs_its_branches(forge: LocalForge, branch: str) -> None:
    with pytest.raises(RejectedError, match="no branch"):
        await forge.open_pull(DRAFT.model_copy(update={"head": "main", branch: "nowhere"}))


async def test_a_page_shows_the_change(forge: LocalForge, git_dir: Path) -> None:
    commit(git_dir, {"src/a.txt": "one\nTWO\n"}, branch=DRAFT.head, parent="main", message="Fix")
    commit(git_dir, {"later.txt": "x\n"}, branch="main", parent="main", message="Meanwhile")
    pull = await forge.open_pull(DRAFT)
    answer = await page(forge, pull.url.removeprefix("http://127.0.0.1:8080"))
    assert answer.status_code == 200
    assert '<div class="removed">two</div><div class="added">TWO</div>' in answer.text
    assert "Why:\n- off" in answer.text
    assert "1 file" in answer.text
    assert "later.txt" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_nothing_an_agent_wrote_is_markup(forge: LocalForge, git_dir: Path) -> None:
    files = {"src/a.txt": f"{HOSTILE}\n", "<b>&.txt": f"{HOSTILE}\n"}
    commit(git_dir, files, branch=DRAFT.head, parent="main", message=HOSTILE)
    pull = await forge.open_pull(DRAFT.model_copy(update={"title": HOSTILE, "body": HOSTILE}))
    for path in (f"/forge/{REPO}/pulls/{pull.number}", f"/forge/{REPO}", "/forge/"):
        answer = await page(forge, path)
        assert answer.status_code == 200
        assert "<script" not in answer.text
        assert "<b>" not in answer.text
        assert "\u202e" not in answer.text
        assert 'onload="' not in answer.text
        assert answer.text.count("</style>") == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/forge/acme/nothing", 404),
        ("/forge/acme/web/pulls/99", 404),
        ("/forge/acme/web/pulls/x", 422),
        ("/forge/..%2F..%2Fetc/passwd", 404),
        ("/forge/acme/web/pulls/99999999999999999999999", 422),
    ],
)
async def test_what_is_not_there_is_not_found(forge: LocalForge, path: str, status: int) -> None:
    assert (await page(forge, path)).status_code == status


async def test_a_branch_that_is_gone_leaves_the_page(forge: LocalForge, git_dir: Path) -> None:
    commit(git_dir, {"a": "b"}, branch=DRAFT.head, parent="main")
    await forge.open_pull(DRAFT)
    run_git(git_dir, "update-ref", "-d", f"refs/heads/{DRAFT.head}")
    answer = await page(forge, f"/forge/{REPO}/pulls/1")
    assert (answer.status_code, "branch is gone" in answer.text) == (200, True)


async def test_the_doctor_names_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    await asyncio.to_thread(blocked.write_text, "")
    [problem] = await LocalForge(blocked / "forge", "http://127.0.0.1").check()
    assert "can be written" in problem
