"""What a server may answer, and what of it the client sees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.inside.errors import UpstreamError
from runner.inside.replyhead import Framing, Reply, parse_reply
from tests.support.fuzz import fuzzed


def reply(*headers: str, status: str = "HTTP/1.1 200 OK", method: str = "GET") -> Reply:
    return parse_reply("\r\n".join([status, *headers]).encode("latin-1"), method=method)


@pytest.mark.parametrize(
    ("headers", "status", "method", "framing"),
    [
        (("Content-Length: 5",), 200, "GET", "length"),
        (("Transfer-Encoding: Chunked",), 200, "GET", "chunks"),
        ((), 200, "GET", "end"),
        (("Content-Length: 5",), 200, "HEAD", "none"),
        (("Transfer-Encoding: chunked",), 200, "HEAD", "none"),
        ((), 204, "GET", "none"),
        (("Content-Length: 5",), 304, "GET", "none"),
        ((), 100, "POST", "none"),
        ((), 103, "GET", "none"),
    ],
)
def test_where_the_body_ends(
    headers: tuple[str, ...], status: int, method: str, framing: Framing
) -> None:
    assert reply(*headers, status=f"HTTP/1.1 {status} X", method=method).framing == framing


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("HTTP/2 200", ()),
        ("HTTP/1.1 99 X", ()),
        ("HTTP/1.1 600 X", ()),
        ("HTTP/1.1  200 X", ()),
        ("200 OK", ()),
        ("", ()),
        ("HTTP/1.1 200 O\0K", ()),
        ("HTTP/1.1 200 OK", ("Content-Length: 1", "Transfer-Encoding: chunked")),
        ("HTTP/1.1 200 OK", ("Content-Length: 1", "Content-Length: 1")),
        ("HTTP/1.1 200 OK", ("Content-Length: +1",)),
        ("HTTP/1.1 200 OK", ("Content-Length: 1,1",)),
        ("HTTP/1.1 200 OK", ("Transfer-Encoding: gzip, chunked",)),
        ("HTTP/1.1 200 OK", ("X : 1",)),
        ("HTTP/1.1 200 OK", (" X: folded",)),
        ("HTTP/1.1 200 OK", ("X: a\nSet-Cookie: b",)),
        ("HTTP/1.1 200 OK", tuple(f"X{i}: 1" for i in range(201))),
    ],
)
def test_what_could_be_read_in_two_ways_is_no_answer(status: str, headers: tuple[str, ...]) -> None:
    with pytest.raises(UpstreamError):
        reply(*headers, status=status)


def test_the_client_sees_nothing_of_the_hop_and_no_other_way_to_the_server() -> None:
    found = reply(
        "Content-Length: 2", "Alt-Svc: h3=x", "Connection: X-Hop, keep-alive", "X-Hop: 1", "Keep-Alive: 5",
        "Proxy-Authenticate: x", "Trailer: Y", "Upgrade: h2c", "Content-Type: text/plain", "Set-Cookie: a",
    )  # fmt: skip
    assert found.head(stays=True) == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nset-cookie: a\r\ncontent-length: 2\r\n\r\n"
    )
    assert b"\r\nconnection: close\r\n\r\n" in found.head(stays=False)


def test_a_body_that_goes_on_until_the_end_is_told_in_chunks() -> None:
    assert b"transfer-encoding: chunked" in reply().head(stays=True)
    assert b"transfer-encoding" not in reply(status="HTTP/1.1 204 X").head(stays=True)


def test_a_head_alone_keeps_its_length() -> None:
    found = reply("Content-Length: 70", method="HEAD")
    assert b"content-length: 70" in found.head(stays=True)


def test_a_server_stays_unless_it_says_otherwise() -> None:
    assert reply("Content-Length: 0").stays
    assert not reply("Content-Length: 0", "Connection: Close").stays
    assert not reply("Content-Length: 0", status="HTTP/1.0 200 OK").stays
    assert not reply().stays


LINES = st.lists(
    st.binary(max_size=20)
    | st.sampled_from(
        [b"Content-Length: 1", b"Transfer-Encoding: chunked", b"Connection: close, x", b"X: y"]
    ),
    max_size=6,
)


@fuzzed
@given(
    st.binary(max_size=60)
    | st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 204 ", b"HTTP/1.1 304"]),
    LINES,
)
def test_no_bytes_make_it_fail_otherwise(first: bytes, lines: list[bytes]) -> None:
    try:
        found = parse_reply(b"\r\n".join([first, *lines]), method="GET")
    except UpstreamError:
        return
    again = parse_reply(found.head(stays=True).removesuffix(b"\r\n\r\n"), method="GET")
    assert again.status == found.status
    assert again.framing == ("chunks" if found.framing == "end" else found.framing)
