"""The body of a message, however it is cut into pieces on its way."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.inside.errors import BodyError
from runner.inside.reader import Body, Reader
from tests.support.fuzz import patient


@contextmanager
def reader(data: bytes, *, ahead: int = 0) -> Iterator[Reader]:
    """One that has `ahead` bytes already and gets the rest, and then the end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data[ahead:])
        theirs.shutdown(socket.SHUT_WR)
        found = Reader(ours, idle_seconds=5)
        found.buffer = data[:ahead]
        yield found


def whole(data: bytes, length: int | None, *, lenient: bool = False, ahead: int = 0) -> bytes:
    with reader(data, ahead=ahead) as found:
        body = Body(found, length, lenient=lenient)
        got = b""
        while part := body.read():
            got += part
        assert body.done
        return got


@pytest.mark.parametrize("ahead", [0, 1, 5, 12])
def test_a_body_ends_where_it_says(ahead: int) -> None:
    assert whole(b"hello and what follows", 5, ahead=ahead) == b"hello"
    assert whole(b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\nmore", None, ahead=ahead) == b"hello"


def test_what_follows_a_body_is_still_there() -> None:
    with reader(b"2\r\nok\r\n0\r\n\r\nGET /") as found:
        body = Body(found, None)
        assert (body.read(), body.read()) == (b"ok", b"")
        assert found.buffer == b"GET /"


def test_nothing_is_read_of_an_empty_body() -> None:
    with reader(b"GET /") as found:
        assert Body(found, 0).read() == b""
        assert found.buffer == b""


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"2;ext=1\r\nok\r\n0\r\n\r\n",
            b"2 \r\nok\r\n0\r\n\r\n",
            b"0x2\r\nok\r\n0\r\n\r\n",
            b"zz\r\n",
        ),
        *(
            b"+2\r\nok\r\n0\r\n\r\n",
            b"2\nok\r\n0\r\n\r\n",
            b"2\r\nokX\r\n0\r\n\r\n",
            b"2\r\nok\n0\r\n\r\n",
        ),
        *(
            b"123456789\r\n",
            b"\r\n",
            b"2\r\no",
            b"2\r\nok\r\n",
            b"0\r\nX: trailer\r\n\r\n",
            b"-1\r\n",
            b"",
        ),
    ],
)
def test_a_client_must_frame_its_body_well(data: bytes) -> None:
    with pytest.raises(BodyError):
        whole(data, None)


def test_what_a_server_adds_to_its_chunks_is_dropped() -> None:
    said = b"2;a=b\r\nok\r\n0\r\nX: trailer\r\nY: z\r\n\r\nmore"
    assert whole(said, None, lenient=True) == b"ok"
    for broken in (
        b"2;\x00\r\nok\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\n" + b"X: y\r\n" * 5000,
        b"zz\r\n",
    ):
        with pytest.raises(BodyError):
            whole(broken, None, lenient=True)


@patient
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.integers(0, 200))
def test_chunks_come_together_wherever_the_pieces_end(parts: list[bytes], ahead: int) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    assert whole(data, None, ahead=ahead) == b"".join(parts)


@patient
@given(
    st.binary(max_size=60) | st.text(alphabet="0123456789abcf;\r\n x").map(str.encode),
    st.booleans(),
)
def test_no_bytes_make_it_fail_otherwise(data: bytes, lenient: bool) -> None:  # noqa: FBT001
    try:
        whole(data, None, lenient=lenient)
    except BodyError:
        return
