"""What GitHub answers of pull requests and issues: a transport in memory plays GitHub."""

from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from integrations.errors import RejectedError
from integrations.github.config import GitHubConfig
from integrations.github.reading import GitHubReading
from integrations.reading import Check, Comment

PULL: dict[str, Any] = {
    "number": 7,
    "title": "Fix",
    "state": "open",
    "html_url": "https://github.test/acme/web/pull/7",
    "user": {"login": "dana"},
    "body": None,
    "head": {"ref": "fix", "sha": "a" * 40},
    "base": {"ref": "main", "sha": "b" * 40},
}
ISSUE = {**PULL, "number": 3, "body": "broken", "user": None}
ANSWERS: dict[str, Any] = {
    "/repos/acme/web/pulls/7": PULL,
    "/repos/acme/web/issues/7": {**PULL, "pull_request": {"url": "x"}},
    "/repos/acme/web/issues/3": ISSUE,
    "/repos/acme/web/issues/3/comments": [
        {"user": {"login": "lee"}, "body": "me too"},
        {"user": None},
    ],
    f"/repos/acme/web/commits/{'a' * 40}/check-runs": {
        "check_runs": [
            {
                "name": "test",
                "status": "completed",
                "conclusion": "success",
                "html_url": "https://ci.test/1",
            },
            {"name": "lint", "status": "in_progress", "conclusion": None, "html_url": None},
        ]
    },
}


def answer(request: httpx.Request) -> httpx.Response:
    assert request.method == "GET"
    assert request.headers["Authorization"] == "token ghp_secret"
    if request.headers["Accept"] == "application/vnd.github.diff":
        return httpx.Response(200, text="diff --git a/x b/x\n")
    path = request.url.path
    return httpx.Response(200, json=ANSWERS[path]) if path in ANSWERS else httpx.Response(404)


@pytest.fixture
def reading() -> GitHubReading:
    config = GitHubConfig(token=SecretStr("ghp_secret"))
    return GitHubReading(config, transport=httpx.MockTransport(answer))


async def test_a_pull_request_its_patch_and_its_checks_are_read(reading: GitHubReading) -> None:
    found = await reading.pull("acme/web", 7, comments=False)
    assert (found.author, found.body, found.branches) == ("dana", "", ("fix", "main"))
    assert await reading.diff("acme/web", 7) == "diff --git a/x b/x\n"
    assert await reading.checks("acme/web", 7) == [
        Check(name="test", state="success", url="https://ci.test/1"),
        Check(name="lint", state="in_progress", url=""),
    ]


async def test_an_issue_is_read_with_its_comments(reading: GitHubReading) -> None:
    found = await reading.issue("acme/web", 3, comments=True)
    assert (found.author, found.body, found.branches) == ("ghost", "broken", None)
    assert found.comments == (
        Comment(author="lee", text="me too"),
        Comment(author="ghost", text=""),
    )


async def test_a_pull_request_is_no_issue(reading: GitHubReading) -> None:
    with pytest.raises(RejectedError, match="is a pull request"):
        await reading.issue("acme/web", 7, comments=False)


@pytest.mark.parametrize("repo", ["acme/web/../x", "acme", "../x"])
async def test_a_name_that_is_none_reaches_nobody(reading: GitHubReading, repo: str) -> None:
    for call in (reading.pull, reading.issue):
        with pytest.raises(RejectedError, match="owner/name"):
            await call(repo, 7, comments=True)
    with pytest.raises(RejectedError, match="owner/name"):
        await reading.diff(repo, 7)
