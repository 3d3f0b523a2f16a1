"""What a model connection lets through, before anything is dialled."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.connections import (
    LlmAccess,
    Upstream,
    body_refusal,
    connections_from_json,
    is_credential_header,
    parse_upstream,
    request_refusal,
)

SECRET = "sk-canary"
GIVEN: dict[str, Any] = {
    "kind": "llm",
    "name": "anthropic",
    "upstream": "https://api.acme.com",
    "private": False,
    "header": "x-api-key",
    "models": ["claude-*"],
    "secret": SECRET,
}


def access(**changes: Any) -> LlmAccess:
    found = connections_from_json([GIVEN | changes])
    assert found is not None
    [made] = found.values()
    return made


def test_a_connection_is_called_by_a_host_of_its_own_and_does_not_show_its_secret() -> None:
    found = connections_from_json([GIVEN])
    assert found is not None
    assert list(found) == ["anthropic.llm.internal"]
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "tcp"},
        {"name": "a.b"},
        {"name": "ends-"},
        {"upstream": "http://api.acme.com"},
        {"upstream": "https://10.0.0.1"},
        {"upstream": "ftp://api.acme.com", "private": True},
        {"private": "yes"},
        {"header": "host"},
        {"header": "X-Api-Key"},
        {"models": []},
        {"models": "claude-*"},
        {"secret": ""},
        {"secret": "two\r\nx-lines: 1"},
        {"secret": None},
    ],
)
def test_what_is_not_right_gives_no_connections_at_all(changes: dict[str, Any]) -> None:
    assert connections_from_json([GIVEN, GIVEN | {"name": "b"} | changes]) is None


def test_two_of_one_name_are_not_right() -> None:
    assert connections_from_json([GIVEN, GIVEN]) is None


@pytest.mark.parametrize(
    ("text", "private", "upstream"),
    [
        ("https://api.acme.com", False, ("https", "api.acme.com", 443, "")),
        ("https://api.acme.com:8443/llm/", False, ("https", "api.acme.com", 8443, "/llm")),
        ("http://models.acme.internal:8000", True, ("http", "models.acme.internal", 8000, "")),
        ("http://10.0.0.1", True, ("http", "10.0.0.1", 80, "")),
    ],
)
def test_upstreams(text: str, private: bool, upstream: tuple[Any, ...]) -> None:  # noqa: FBT001 - parametrised
    scheme, host, port, prefix = upstream
    assert parse_upstream(text, private=private) == Upstream(
        scheme=scheme, host=host, port=port, prefix=prefix
    )


@pytest.mark.parametrize(
    "text",
    [
        "http://0x7f000001", "http://127.1", "http://[::1]", "http://1.2.3.4.5", "http://user@api.acme.com",
        "http://api.acme.com/?x", "http://api.acme.com/a/../b", "http://api.acme.com//b", "http://api.acme.com:0",
        "http://api.acme.com:99999", "http://API.acme.com", "http://api.acme.com\n", "api.acme.com", "",
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_no_upstream(text: str) -> None:
    assert parse_upstream(text, private=True) is None


@given(text=st.text())
def test_without_private_an_upstream_always_speaks_tls_with_a_name(text: str) -> None:
    upstream = parse_upstream(text, private=False)
    assert upstream is None or (upstream.scheme == "https" and not upstream.host[-1].isdigit())


@pytest.mark.parametrize("target", ["/v1/messages", "/v1/messages?beta=true", "/v1/messages/count_tokens"])  # fmt: skip
def test_messages_may_be_posted(target: str) -> None:
    assert request_refusal(access(), method="POST", target=target) is None


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/messages"), ("POST", "/v1/files"), ("POST", "/v1/messages/batches"), ("POST", "/v1/messages/"),
        ("POST", "//v1/messages"), ("POST", "/x/../v1/messages"), ("POST", "/v1/Messages"), ("POST", "/v1/messages;a"),
        ("POST", "/v1/%6dessages"), ("GET", "/"), ("DELETE", "/v1/messages/count_tokens"),
    ],
)  # fmt: skip
def test_nothing_else_may_be_asked(method: str, target: str) -> None:
    assert "anthropic" in str(request_refusal(access(), method=method, target=target))


def test_a_model_must_match() -> None:
    body = {"model": "claude-opus-5", "messages": [{"model": "other"}]}
    assert body_refusal(access(), json.dumps(body).encode()) is None
    reason = body_refusal(access(), b'{"model": "gpt-9"}')
    assert reason == "the connection anthropic does not offer the model 'gpt-9'"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b'"model"', b'{"model": 1}', b'{"model": "claude-a", "model": "claude-b"}',
        b'{"model": "claude-a", "mod\\u0065l": "claude-b"}', b'{"Model": "claude-a"}', b'{"MODEL": "x", "model": "claude-a"}',
        b'{"messages": {"model": "claude-a"}}', b'[["model", "claude-a"]]', b"\xff\xfe{\x00}\x00", b"[" * 100_000,
        b'\xef\xbb\xbf{"model": "claude-a"}', b'{"model": "claude-a"} {}',
    ],
)  # fmt: skip
def test_a_body_that_names_no_model_or_two_is_refused(body: bytes) -> None:
    assert body_refusal(access(), body) == "the body is not a JSON object that names one model"


@given(body=st.binary())
def test_no_body_makes_it_raise(body: bytes) -> None:
    body_refusal(access(), body)


def test_headers_that_frame_a_request_carry_no_secret() -> None:
    assert is_credential_header("authorization")
    assert not is_credential_header("content-length")
