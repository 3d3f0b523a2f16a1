"""What a gateway takes for a connection, and what may be asked of an HTTP one."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.connections import (
    HttpAccess,
    LlmAccess,
    TcpAccess,
    Upstream,
    credential,
    http_refusal,
    is_credential_header,
    parse_upstream,
)
from policies.connections_json import connections_from_json
from policies.pricelist import prices_for

SECRET = "sk-canary"
LLM: dict[str, Any] = {
    "kind": "llm",
    "name": "anthropic",
    "dialect": "anthropic",
    "upstream": "https://api.acme.com",
    "private": False,
    "header": "x-api-key",
    "scheme": "",
    "user": "",
    "models": ["claude-*"],
    "allow": [],
    "prices": prices_for("anthropic", ()),
    "secret": SECRET,
}
HTTP: dict[str, Any] = {
    "kind": "http",
    "name": "issues",
    "upstream": "https://issues.acme.com",
    "private": False,
    "header": "authorization",
    "scheme": "Bearer",
    "user": "",
    "requests": [
        {"methods": ["GET"], "paths": ["/api/*/issues", "/search/**"]},
        {"methods": ["POST", "PUT"], "paths": ["/api/*/issues/*"]},
    ],
    "secret": SECRET,
}
TCP: dict[str, Any] = {
    "kind": "tcp",
    "name": "replica",
    "host": "db.acme.com",
    "port": 5432,
    "private": True,
}


def access(**changes: Any) -> HttpAccess:
    found = connections_from_json([HTTP | changes])
    assert found is not None
    [made] = found.calls.values()
    assert isinstance(made, HttpAccess)
    return made


def test_a_connection_is_called_by_a_host_of_its_own_and_does_not_show_its_secret() -> None:
    found = connections_from_json([LLM, HTTP, TCP])
    assert found is not None
    assert {host: type(made) for host, made in found.calls.items()} == {
        "anthropic.llm.internal": LlmAccess,
        "issues.internal": HttpAccess,
    }
    assert {place: type(made) for place, made in found.tunnels.items()} == {
        ("replica.internal", 5432): TcpAccess
    }
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "smtp"}, {"name": "a.b"}, {"name": "ends-"}, {"name": 1}, {"dialect": "other"}, {"dialect": ["openai"]},
        {"upstream": "http://api.acme.com"}, {"upstream": "https://10.0.0.1"}, {"upstream": "ftp://api.acme.com", "private": True},
        {"private": "yes"}, {"header": "host"}, {"header": "X-Api-Key"}, {"scheme": "two words"}, {"scheme": None},
        {"models": []}, {"models": "claude-*"}, {"allow": ["websearch"]}, {"allow": "web_search"},
        {"secret": ""}, {"secret": "two\r\nx-lines: 1"}, {"secret": None},
        {"prices": []}, {"prices": None}, {"prices": [{"model": "*"}]},
        {"prices": [LLM["prices"][-1] | {"input": -1}]}, {"prices": [LLM["prices"][-1] | {"input": float("nan")}]},
        {"prices": LLM["prices"][:-1]},
    ],
)  # fmt: skip
def test_what_is_not_right_gives_no_connections_at_all(changes: dict[str, Any]) -> None:
    assert connections_from_json([LLM, LLM | {"name": "b"}]) is not None
    assert connections_from_json([LLM, LLM | {"name": "b"} | changes]) is None


@pytest.mark.parametrize(
    "item",
    [
        HTTP | {"requests": []}, HTTP | {"requests": [{"methods": ["get"], "paths": ["/"]}]}, HTTP | {"user": "a:b"},
        HTTP | {"requests": [{"methods": [], "paths": ["/"]}]}, HTTP | {"requests": [{"methods": ["GET"], "paths": ["a"]}]},
        HTTP | {"requests": [{"methods": ["CONNECT"], "paths": ["/"]}]}, HTTP | {"requests": ["GET /"]},
        HTTP | {"name": "git"}, HTTP | {"name": "llm"}, TCP | {"name": "git"},
        TCP | {"port": "5432"}, TCP | {"port": 0}, TCP | {"port": 70000}, TCP | {"port": 53}, TCP | {"port": True},
        TCP | {"host": "10.0.0.1", "private": False}, TCP | {"host": "010.0.0.1"}, TCP | {"host": "DB.acme.com"}, TCP | {"host": None}, TCP | {"private": 1}, "tcp", None,
    ],
)  # fmt: skip
def test_of_each_kind_what_is_not_right_is_not_taken(item: object) -> None:
    assert connections_from_json([item]) is None


def test_two_of_one_name_are_not_right() -> None:
    assert connections_from_json([LLM, LLM]) is None
    assert connections_from_json([HTTP, TCP | {"name": "issues"}]) is None


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


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/api/v1/issues"), ("GET", "/api/v1/issues?state=open&q=%2F.."), ("GET", "/search"), ("GET", "/search/"),
        ("GET", "/search/a/b%20c"), ("POST", "/api/v1/issues/7"), ("PUT", "/api/v1/issues/7"),
    ],
)  # fmt: skip
def test_what_policy_names_may_be_asked(method: str, target: str) -> None:
    assert http_refusal(access(), method=method, target=target) is None


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/api/v1/issues"), ("DELETE", "/api/v1/issues/7"), ("HEAD", "/search"), ("GET", "/"), ("GET", "/api/v1/users"),
        ("GET", "/api/v1/x/issues"), ("GET", "/API/v1/issues"), ("GET", "/search/../admin"), ("GET", "/search/./x"),
        ("GET", "/search//x"), ("GET", "/search/%2e%2e/x"), ("GET", "/search/%2E%2E/x"), ("GET", "/search/a%2Fb"),
        ("GET", "/search/a%5Cb"), ("GET", "/search/a\\b"), ("GET", "/search/a;b"), ("GET", "/search/%00"), ("GET", "/search/%252e"),
        ("GET", "/search/%zz"), ("GET", "/search/#x"), ("GET", "/searchx"), ("GET", "//search"), ("GET", ""),
    ],
)  # fmt: skip
def test_nothing_else_may_be_asked(method: str, target: str) -> None:
    assert http_refusal(access(), method=method, target=target) is not None


@given(target=st.text(), method=st.text())
def test_no_target_makes_it_raise(target: str, method: str) -> None:
    http_refusal(access(), method=method, target=target)


def test_a_credential_is_known_in_all_its_spellings() -> None:
    encoded = base64.b64encode(b"bot:p@ss word").decode()
    basic = credential(header="authorization", scheme="", user="bot", secret="p@ss word")
    assert basic.value == f"Basic {encoded}"
    assert {basic.value, encoded, "p@ss word", "p%40ss%20word"} <= set(basic.forms)
    bearer = credential(header="authorization", scheme="", user="", secret=f"Bearer {SECRET}")
    assert bearer.value == f"Bearer {SECRET}"
    assert SECRET in bearer.forms
    assert "sk-canary" not in repr((basic, bearer))


def test_headers_that_frame_a_request_carry_no_secret() -> None:
    assert is_credential_header("authorization")
    assert not is_credential_header("content-length")
