from typing import Any

import pytest
from gql.transport import exceptions
from gql.transport.exceptions import (
    TransportError,
    TransportProtocolError,
    TransportQueryError,
    TransportServerError,
)

from integrations.errors import (
    AuthError,
    IntegrationError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from integrations.linear.limits import LimitWatch
from integrations.linear.refusals import by_status, is_duplicate, mapped, wait_seconds

ALL = [
    found
    for found in vars(exceptions).values()
    if isinstance(found, type) and issubclass(found, TransportError)
]


@pytest.mark.parametrize("kind", ALL)
def test_whatever_gql_raises_is_one_of_our_errors(kind: type[TransportError]) -> None:
    assert len(ALL) >= 7
    error = mapped(kind("it broke"), {})
    assert type(error) is UnavailableError


def refused(*, message: str = "No.", **extensions: Any) -> IntegrationError:
    answer = [{"message": message, "extensions": extensions}]
    return mapped(TransportQueryError("no", errors=answer), {})


@pytest.mark.parametrize(
    ("extensions", "error"),
    [
        ({"type": "ratelimited"}, RateLimitedError),
        ({"code": "RATELIMITED"}, RateLimitedError),
        ({"type": "authentication error"}, AuthError),
        ({"code": "AUTHENTICATION_ERROR"}, AuthError),
        ({"type": "forbidden", "statusCode": 403}, RejectedError),
        ({"type": "feature not accessible"}, RejectedError),
        ({"type": "invalid input", "userError": True}, RejectedError),
        ({"type": "user error"}, RejectedError),
        ({"type": "usage limit exceeded"}, RejectedError),
        ({"type": "graphql error", "code": "GRAPHQL_VALIDATION_FAILED"}, RejectedError),
        ({"type": "internal error"}, UnavailableError),
        ({"type": "network error"}, UnavailableError),
        ({"type": "lock timeout"}, UnavailableError),
        ({"code": "INTERNAL_SERVER_ERROR"}, UnavailableError),
        ({"type": "somethingNew", "statusCode": 503}, UnavailableError),
        ({"type": "somethingNew"}, RejectedError),
        ({}, RejectedError),
    ],
    ids=str,
)
def test_linears_errors_become_the_error_of_who_can_act(
    extensions: dict[str, Any], error: type[IntegrationError]
) -> None:
    assert type(refused(**extensions)) is error


@pytest.mark.parametrize(
    "errors", [None, [], ["text"], [{}], [{"message": None, "extensions": "x"}], [3]]
)
def test_errors_of_any_shape_are_borne(errors: Any) -> None:
    error = mapped(TransportQueryError("no", errors=errors), {})
    assert type(error) in {UnavailableError, RejectedError}


def test_what_people_may_be_shown_is_in_the_error() -> None:
    error = refused(message="Entity\nnot found", userPresentableMessage="Could not find it.")
    assert str(error) == "linear refused: Could not find it. (Entity not found)"


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, AuthError), (403, RejectedError), (404, RejectedError), (429, RateLimitedError),
     (500, UnavailableError), (502, UnavailableError), (302, UnavailableError)],
)  # fmt: skip
def test_a_status_means_what_http_says(status: int, error: type[IntegrationError]) -> None:
    assert type(mapped(TransportServerError("no", status), {})) is error
    assert type(by_status(status, {})) is error


def test_an_answer_that_is_no_graphql_is_an_outage() -> None:
    assert type(mapped(TransportProtocolError("page"), {})) is UnavailableError


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 60),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "999999"}, 3600),
        ({"retry-after": "soon"}, 60),
        ({"x-ratelimit-requests-reset": "30000", "x-ratelimit-requests-remaining": "0"}, 20),
        ({"x-ratelimit-requests-reset": "30000", "x-ratelimit-requests-remaining": "9"}, 60),
        ({"x-ratelimit-requests-reset": "5000", "x-ratelimit-requests-remaining": "0"}, 1),
        ({"x-ratelimit-requests-reset": "x", "x-ratelimit-requests-remaining": "0"}, 60),
        ({"x-ratelimit-complexity-reset": "99999999", "x-ratelimit-complexity-remaining": "0"}, 3600),
        ({"x-ratelimit-requests-reset": "30000", "x-ratelimit-requests-remaining": "0",
          "x-ratelimit-endpoint-requests-reset": "40000",
          "x-ratelimit-endpoint-requests-remaining": "0"}, 30),
    ],
    ids=str,
)  # fmt: skip
def test_how_long_to_wait_is_read_from_what_is_used_up(
    headers: dict[str, str], seconds: float
) -> None:
    assert wait_seconds(headers, now=10.0) == seconds


@pytest.mark.parametrize(
    ("said", "duplicate"),
    [
        ("conflict on insert of AgentActivity", True),
        ("Entity AgentActivity with id x already exists.", True),
        ("id must be unique", True),
        ("Entity not found: AgentSession", False),
    ],
)
def test_a_duplicate_is_known_by_its_words(said: str, *, duplicate: bool) -> None:
    assert is_duplicate(RejectedError("linear", said)) is duplicate


def test_a_limit_that_comes_near_is_told_once() -> None:
    watch = LimitWatch()

    def saw(left: str, of: str = "5000") -> set[str]:
        watch.saw({"x-ratelimit-requests-limit": of, "x-ratelimit-requests-remaining": left})
        return watch.near

    assert saw("500") == set()
    assert saw("499") == {"x-ratelimit-requests"}
    assert saw("x") == {"x-ratelimit-requests"}
    assert saw("4000") == set()
    assert saw("0", of="0") == set()
