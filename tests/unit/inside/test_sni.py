import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.egress import canonical_host
from runner.inside.errors import HelloError
from runner.inside.sni import HELLO_BYTES, read_hello
from tests.support.fuzz import fuzzed
from tests.support.hellos import client_hello, in_records, with_extension

HELLO = client_hello("web.example.com")


def host(data: bytes) -> str:
    found = read_hello(data)
    assert found is not None
    return found.host


def test_the_name_is_read() -> None:
    assert host(HELLO) == "web.example.com"
    assert host(client_hello("WEB.Example.com")) == "web.example.com"
    assert host(HELLO + b"what comes next") == "web.example.com"


def test_a_second_hello_inside_is_noticed() -> None:
    plain, hiding = read_hello(HELLO), read_hello(with_extension(HELLO, 0xFE0D))
    assert plain is not None
    assert hiding is not None
    assert (plain.encrypted, hiding.encrypted) == (False, True)


@pytest.mark.parametrize("size", [1, 3, 64, 200])
def test_records_are_put_together(size: int) -> None:
    assert host(in_records(HELLO, size)) == "web.example.com"


def test_every_beginning_asks_for_more() -> None:
    assert all(read_hello(HELLO[:size]) is None for size in range(len(HELLO)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "not TLS"),
        (b"\x16\x02", "not TLS"),
        (b"\x15\x03\x01\x00\x02\x02\x31", "not TLS"),
        (b"\x16\x03\x01\x00\x00", "impossible length"),
        (b"\x16\x03\x01\xff\xff", "impossible length"),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", "no ClientHello"),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", "too long"),
        (client_hello(None), "names no server"),
        (with_extension(HELLO, 0, b"\0\0"), "twice"),
        (with_extension(client_hello(None), 0, b""), "malformed"),
        (with_extension(client_hello(None), 0, b"\0\x05\0\0\x02ab"), "no host name"),
        (with_extension(client_hello(None), 0, b"\0\x0c\0\0\x09127.0.0.1"), "no host name"),
        (with_extension(client_hello(None), 0, b"\0\x08\0\0\x05a.bc."), "no host name"),
        (with_extension(client_hello(None), 0, b"\0\x0e\0\0\x04a.bc\0\0\x04d.ef"), "malformed"),
        (with_extension(client_hello(None), 0, b"\0\x07\x01\0\x04a.bc"), "names no host"),
    ],
)
def test_what_is_odd_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(HelloError, match=reason):
        read_hello(data)


def test_a_hello_that_never_ends_is_refused() -> None:
    with pytest.raises(HelloError):
        read_hello(b"\x16\x03\x01\x40\x00\x01\x00\x3f\x00" + b"x" * HELLO_BYTES)


def refused_or_read(data: bytes) -> None:
    try:
        found = read_hello(data)
    except HelloError:
        return
    assert found is None or canonical_host(found.host.encode()) == found.host


@fuzzed
@given(st.binary(max_size=400))
def test_no_bytes_make_it_fail_otherwise(data: bytes) -> None:
    refused_or_read(data)
    refused_or_read(b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data)


CHANGES = st.lists(
    st.tuples(st.integers(0, len(HELLO) - 1), st.integers(0, 255)), min_size=1, max_size=4
)


@fuzzed
@given(CHANGES, st.integers(0, len(HELLO)))
def test_no_change_of_a_true_hello_makes_it_fail_otherwise(
    changes: list[tuple[int, int]], cut: int
) -> None:
    changed = bytearray(HELLO)
    for at, value in changes:
        changed[at] = value
    refused_or_read(bytes(changed))
    refused_or_read(bytes(changed[:cut]))
