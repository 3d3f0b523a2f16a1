"""GitHub's answers become our words: a transport in memory plays GitHub."""

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from integrations.errors import (
    AuthError,
    IntegrationError,
    MalformedPayloadError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from integrations.forge import PullDraft
from integrations.github.config import GitHubConfig
from integrations.github.forge import GitHubForge

DRAFT = PullDraft(repo="acme/web", head="errand/1-fix", base="main", title="Fix", body="It was off")
EXISTS = {
    "message": "Validation Failed",
    "errors": [{"message": "A pull request already exists for acme:errand/1-fix."}],
}


def a_forge(answer: Callable[[httpx.Request], httpx.Response], **settings: str) -> GitHubForge:
    config = GitHubConfig(token=SecretStr("ghp_secret"), **settings)
    return GitHubForge(config, transport=httpx.MockTransport(answer))


def a_pull(
    number: int = 7,
    *,
    state: str = "open",
    ref: str = "errand/1-fix",
    repo: str | None = "acme/web",
) -> dict[str, Any]:
    return {
        "number": number,
        "html_url": f"https://github.example/acme/web/pull/{number}",
        "state": state,
        "head": {"ref": ref, "repo": {"full_name": repo} if repo else None, "sha": "unread"},
        "base": {"ref": "main", "repo": {"full_name": "acme/web"}},
        "title": "unread",
    }


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(401, json={"message": "Bad credentials"}), AuthError),
        (httpx.Response(403, json={"message": "Resource not accessible"}), RejectedError),
        (httpx.Response(404, json={"message": "Not Found"}), RejectedError),
        (httpx.Response(422, json={"message": "Validation Failed"}), RejectedError),
        (httpx.Response(451, text="<html>"), RejectedError),
        (httpx.Response(301, headers={"Location": "/repositories/1"}), RejectedError),
        (httpx.Response(429, json={"message": "slow down"}), RateLimitedError),
        (httpx.Response(403, json={"message": "a secondary rate limit"}), RateLimitedError),
        (httpx.Response(403, headers={"Retry-After": "soon"}), RateLimitedError),
        (httpx.Response(500, text="oops"), UnavailableError),
        (httpx.Response(503, json=[]), UnavailableError),
        (httpx.Response(200, text="<html>"), MalformedPayloadError),
        (httpx.Response(200, json={"name": "web"}), MalformedPayloadError),
    ],
)
async def test_every_answer_has_its_error(
    answer: httpx.Response, error: type[IntegrationError]
) -> None:
    with pytest.raises(IntegrationError) as raised:
        await a_forge(lambda _: answer).default_branch("acme/web")
    assert type(raised.value) is error


@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ReadTimeout, httpx.ReadError])
async def test_no_answer_is_an_unknown_outcome(failure: type[httpx.TransportError]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise failure("gone", request=request)

    with pytest.raises(UnavailableError, match=failure.__name__):
        await a_forge(answer).default_branch("acme/web")


async def test_a_rate_limit_says_how_long_to_wait() -> None:
    forge = a_forge(lambda _: httpx.Response(403, headers={"Retry-After": "17"}))
    with pytest.raises(RateLimitedError) as raised:
        await forge.default_branch("acme/web")
    assert raised.value.retry_after == 17


async def test_a_spent_budget_waits_for_its_reset() -> None:
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"}
    forge = a_forge(lambda _: httpx.Response(403, headers=headers))
    with pytest.raises(RateLimitedError) as raised:
        await forge.default_branch("acme/web")
    assert raised.value.retry_after > 1_000_000


async def test_nothing_is_tried_again_behind_the_callers_back() -> None:
    calls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        return httpx.Response(502)

    with pytest.raises(UnavailableError):
        await a_forge(answer).default_branch("acme/web")
    assert calls == ["GET"]


async def test_enterprise_server_keeps_the_path_of_its_api() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json={"default_branch": "trunk"})

    forge = a_forge(answer, api_url="https://ghes.example/api/v3", git_url="https://ghes.example")
    assert await forge.default_branch("acme/web") == "trunk"
    assert seen == ["https://ghes.example/api/v3/repos/acme/web"]
    assert (await forge.access("acme/web", write=True)).url == "https://ghes.example/acme/web.git"


async def test_git_gets_the_token_in_a_header_and_not_in_the_url() -> None:
    access = await a_forge(lambda _: httpx.Response(500)).access("acme/web", write=True)
    assert access.url == "https://github.com/acme/web.git"
    assert access.header is not None
    assert "ghp_secret" not in repr(access)
    scheme, _, credential = access.header.get_secret_value().rpartition(" ")
    assert scheme == "Authorization: Basic"
    assert base64.b64decode(credential) == b"x-access-token:ghp_secret"


async def test_workers_read_with_the_read_token() -> None:
    config = GitHubConfig(token=SecretStr("ghp_secret"), read_token=SecretStr("ghp_reader"))
    forge = GitHubForge(config)
    tokens = []
    for write in (False, True):
        header = (await forge.access("acme/web", write=write)).header
        assert header is not None
        credential = header.get_secret_value().rpartition(" ")[2]
        tokens.append(base64.b64decode(credential))
    assert tokens == [b"x-access-token:ghp_reader", b"x-access-token:ghp_secret"]


@pytest.mark.parametrize("repo", ["web", "a/b/c", "../user", "acme/..", "acme/web?x", "a b/c", ""])
async def test_a_strange_name_never_becomes_a_path(repo: str) -> None:
    forge = a_forge(lambda _: pytest.fail("no call is made"))
    with pytest.raises(RejectedError):
        await forge.default_branch(repo)
    with pytest.raises(RejectedError):
        await forge.access(repo, write=True)


async def test_a_faster_rival_is_found_when_github_says_it_exists() -> None:
    answers = [
        httpx.Response(200, json=[]),
        httpx.Response(422, json=EXISTS),
        httpx.Response(200, json=[a_pull(8)]),
    ]
    pull = await a_forge(lambda _: answers.pop(0)).open_pull(DRAFT)
    assert (pull.number, pull.open) == (8, True)


async def test_a_refusal_without_a_rival_is_told_in_githubs_words() -> None:
    answers = [
        httpx.Response(200, json=[a_pull(3, state="closed")]),
        httpx.Response(422, json={"message": "Validation Failed", "errors": ["No commits"]}),
        httpx.Response(200, json=[a_pull(3, state="closed")]),
    ]
    with pytest.raises(RejectedError, match="422 Validation Failed; No commits"):
        await a_forge(lambda _: answers.pop(0)).open_pull(DRAFT)


async def test_a_closed_pull_request_does_not_stop_a_new_one() -> None:
    sent: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=[a_pull(3, state="closed")])
        sent.append(json.loads(request.content))
        return httpx.Response(201, json=a_pull(4))

    pull = await a_forge(answer).open_pull(DRAFT.model_copy(update={"title": "x" * 500}))
    assert pull.number == 4
    assert [len(body["title"]) for body in sent] == [256]


async def test_only_pull_requests_of_this_very_branch_are_found() -> None:
    listed = [
        a_pull(9, ref="errand/1-fix-more"),
        a_pull(8, repo="mallory/web"),
        a_pull(7, repo=None),
        a_pull(6, state="closed", repo="Acme/Web"),
        a_pull(5),
        a_pull(4, state="closed"),
    ]
    forge = a_forge(lambda _: httpx.Response(200, json=listed))
    found = await forge.find_pull("acme/web", head="errand/1-fix")
    assert found is not None
    assert found.number == 5


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (httpx.Response(401), "does not accept the token"),
        (httpx.Response(403, json={"message": "no"}), "refuses"),
        (httpx.Response(200, text="<html>"), "is not GitHub's API"),
        (httpx.Response(502), "not available"),
        (httpx.Response(200, json={"login": "e"}, headers={"X-OAuth-Scopes": "gist"}), "`repo`"),
        (
            httpx.Response(200, json={"login": "e"}, headers={"X-OAuth-Scopes": "repo, workflow"}),
            "may change workflows",
        ),
    ],
)
async def test_the_doctor_names_each_problem(answer: httpx.Response, word: str) -> None:
    [problem] = await a_forge(lambda _: answer).check()
    assert word in problem


@pytest.mark.parametrize("headers", [{}, {"X-OAuth-Scopes": "repo, read:org"}])
async def test_the_doctor_is_content(headers: dict[str, str]) -> None:
    answer = httpx.Response(200, json={"login": "errand"}, headers=headers)
    assert await a_forge(lambda _: answer).check() == []


async def test_the_doctor_asks_with_the_token_for_reading_too() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        good = "ghp_secret" in request.headers["Authorization"]
        return httpx.Response(200, json={"login": "errand"}) if good else httpx.Response(401)

    [problem] = await a_forge(answer, read_token="revoked").check()
    assert "ERRAND_GITHUB__READ_TOKEN" in problem
    assert await a_forge(answer, read_token="ghp_secret").check() == []
