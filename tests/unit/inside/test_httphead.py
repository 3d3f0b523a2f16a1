import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.egress import is_canonical_path
from runner.inside.errors import HeadError
from runner.inside.httphead import Head, forwarded, parse_head, response, split_head
from tests.support.fuzz import fuzzed


def raw(first: str = "GET / HTTP/1.1", *headers: str) -> bytes:
    return "\r\n".join([first, *(headers or ("Host: a.example.com",))]).encode("latin-1")


def head(*headers: str, first: str = "GET / HTTP/1.1") -> Head:
    return parse_head(raw(first, "Host: a.example.com", *headers))


def test_a_plain_request_is_read() -> None:
    found = parse_head(raw("GET /a?b=c%20d HTTP/1.1", "Host: A.Example.COM:80", "X-Y:  1 \t"))
    assert (found.method, found.target, found.host) == ("GET", "/a?b=c%20d", "a.example.com")
    assert (found.length, found.value(b"x-y"), found.expects_continue) == (0, "1", False)
    assert (found.path, found.port) == ("/a", 80)


def test_the_body_is_framed_by_length_or_chunks() -> None:
    assert head("Content-Length: 12").length == 12
    assert head("Transfer-Encoding: Chunked").length is None
    assert head("Expect: 100-Continue").expects_continue


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ("GET http://a.example.com/ HTTP/1.1", 400),
        ("GET a HTTP/1.1", 400),
        ("OPTIONS * HTTP/1.1", 400),
        ("GET / HTTP/1.0", 400),
        ("GET / HTTP/2", 400),
        ("GET /", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("get / HTTP/1.1", 400),
        ("GET /a b HTTP/1.1", 400),
        ("GET /a#b HTTP/1.1", 400),
        ("GET /\u00e4 HTTP/1.1", 400),
        ("GET /\0 HTTP/1.1", 400),
        ("GET /a/../b HTTP/1.1", 400),
        ("GET /%2e%2e/b HTTP/1.1", 400),
        ("GET //a HTTP/1.1", 400),
        ("GET /a\\b HTTP/1.1", 400),
        ("GET /a;b HTTP/1.1", 400),
        ("GET ?a=b HTTP/1.1", 400),
        ("GET https://a.example.com/ HTTP/1.1", 400),
        ("GET ftp://a.example.com/ HTTP/1.1", 400),
        ("CONNECT a.example.com:443 HTTP/1.1", 400),
        ("CONNECT /x HTTP/1.1", 405),
        ("PRI * HTTP/2.0", 400),
        ("", 400),
    ],
)
def test_other_request_lines_are_refused(first: str, status: int) -> None:
    with pytest.raises(HeadError) as found:
        parse_head(raw(first))
    assert found.value.status == status


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 1", "Transfer-Encoding: chunked"),
        ("Content-Length: 1", "Content-Length: 1"),
        ("Content-Length: +5",),
        ("Content-Length: 5,5",),
        ("Content-Length: 0x10",),
        ("Content-Length: -1",),
        ("Content-Length:",),
        ("Content-Length: 1e3",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: \x0bchunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: gzip, chunked",),
        ("Host: b.example.com",),
        ("X : 1",),
        (" X: folded",),
        ("\tX: folded",),
        ("X",),
        (": 1",),
        ("X\u00e4: 1",),
        ("X: a\0b",),
        ("X: a\rb",),
        ("Expect: something",),
        ("Connection: close, Host",),
        ("Connection: content-length",),
        tuple(f"X{i}: 1" for i in range(101)),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(headers: tuple[str, ...]) -> None:
    with pytest.raises(HeadError):
        head(*headers)


@pytest.mark.parametrize(
    "host",
    [
        *("", "localhost", "127.0.0.1", "a.example.com@b.com", "[::1]", "a,b", "a.example.com:"),
        *("a.example.com:0", "a.example.com:080", "a.example.com:+80", "a.example.com:80:80"),
    ],
)
def test_the_host_must_be_a_host(host: str) -> None:
    with pytest.raises(HeadError):
        parse_head(raw("GET / HTTP/1.1", f"Host: {host}"))


def test_a_request_without_host_is_refused() -> None:
    with pytest.raises(HeadError):
        parse_head(raw("GET / HTTP/1.1", "X: 1"))


def test_what_goes_on_has_nothing_of_the_hop_before() -> None:
    given_head = head(
        "Connection: Upgrade, X-Mine", "Upgrade: h2c", "HTTP2-Settings: x", "X-Mine: 1",
        "Proxy-Authorization: x", "TE: trailers", "Keep-Alive: 5", "Accept: */*", "Cookie: a=b",
    )  # fmt: skip
    assert forwarded(given_head, authority="a.example.com:8443") == (
        b"GET / HTTP/1.1\r\nhost: a.example.com:8443\r\naccept: */*\r\ncookie: a=b\r\n\r\n"
    )


def test_what_goes_on_is_read_as_the_same_request() -> None:
    before = head("Content-Length: 3", "X-A: b", first="POST /x HTTP/1.1")
    after = parse_head(forwarded(before, authority=before.host).removesuffix(b"\r\n\r\n"))
    assert (after.method, after.target, after.host) == (before.method, before.target, before.host)
    assert after.length == before.length


def test_a_websocket_is_refused() -> None:
    with pytest.raises(HeadError, match="WebSocket") as found:
        head("Connection: Upgrade", "Upgrade: WebSocket")
    assert found.value.status == 403


def test_a_client_says_whether_it_stays() -> None:
    assert head().stays
    assert head("Connection: keep-alive").stays
    assert not head("Connection: x, Close").stays


def test_a_head_is_split_from_what_follows() -> None:
    assert split_head(b"a\r\nb\r\n\r\nrest\n") == (b"a\r\nb", b"rest\n")
    assert split_head(b"a\r\nb\r\n") is None


@pytest.mark.parametrize("data", [b"a\nb", b"\r\na", b"\na", b"x" * 20_000, b"a\n\n"])
def test_a_head_by_other_rules_is_refused_early(data: bytes) -> None:
    with pytest.raises(HeadError):
        split_head(data)


def test_an_answer_of_ours_counts_its_body() -> None:
    said = response("403 Forbidden", headers=[("x-a", "b")], body="n\u00f6\n")
    assert said.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"content-length: 4\r\n" in said
    assert said.endswith("\r\n\r\nn\u00f6\n".encode())


HEADERS = [
    *(b"Host: a.example.com", b"host: A.example.com:443", b"Content-Length: 1", b"X:", b"X: y\tz"),
    *(b"Transfer-Encoding: chunked", b"Connection: close, x", b"Expect: 100-continue", b" folded"),
    *(
        b"Upgrade: websocket",
        b"Content-Length : 1",
        b"Content-Length: 1,1",
        b"X: \x00",
        b"X: a\nb: c",
    ),
]
lines = st.lists(st.binary(max_size=30) | st.sampled_from(HEADERS), max_size=8)
TARGET = st.text(alphabet="/.%2eEfF5cC;\\?#ab \x80", max_size=12)
FIRST = st.binary(max_size=200) | st.builds(
    lambda method, target: f"{method} /{target} HTTP/1.1".encode("latin-1"),
    st.sampled_from(["GET", "POST", "CONNECT", "get", "G T"]),
    TARGET,
)


@fuzzed
@given(FIRST, lines)
def test_no_bytes_make_it_fail_otherwise(first: bytes, rest: list[bytes]) -> None:
    for request in (first, b"GET / HTTP/1.1"):
        data = b"\r\n".join([request, *rest]) + b"\r\n\r\n"
        try:
            split = split_head(data)
            found = parse_head(split[0]) if split else None
        except HeadError:
            continue
        if found:
            again = parse_head(forwarded(found, authority=found.host).removesuffix(b"\r\n\r\n"))
            assert (again.method, again.target, again.host) == (
                found.method,
                found.target,
                found.host,
            )
            assert again.length == found.length
            assert is_canonical_path(found.path)
