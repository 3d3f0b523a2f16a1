import socket
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.inside.dns import Names, answer

HEADER = struct.Struct(">6H")


def query(
    *labels: bytes, kind: int = 1, family: int = 1, flags: int = 0x0100, counts: tuple[int, ...] = (1, 0, 0, 0)
) -> bytes:  # fmt: skip
    name = b"".join(bytes([len(label)]) + label for label in labels)
    return HEADER.pack(7, flags, *counts) + name + b"\0" + struct.pack(">2H", kind, family)


def ask(message: bytes, names: Names | None = None) -> tuple[int, list[str]]:
    """Code and addresses of the reply."""
    reply = answer(message, names or Names())
    assert reply is not None
    ident, flags, _, answers, _, _ = HEADER.unpack_from(reply)
    assert ident == 7
    assert flags & 0x8000
    return flags & 0xF, [socket.inet_ntoa(reply[-4:])] if answers else []


WEB = query(b"web", b"example", b"com")


def test_each_name_has_its_own_address_and_keeps_it() -> None:
    names = Names()
    assert ask(WEB, names) == (0, ["127.64.0.1"])
    assert ask(query(b"api", b"example", b"com"), names) == (0, ["127.64.0.2"])
    assert ask(query(b"WEB", b"Example", b"com"), names) == (0, ["127.64.0.1"])
    assert names.name("127.64.0.1") == "web.example.com"
    assert names.name("127.64.0.9") == ""


def test_other_types_are_empty_and_give_nothing_out() -> None:
    names = Names()
    assert ask(query(b"web", b"example", b"com", kind=28), names) == (0, [])
    assert names.name("127.64.0.1") == ""


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (query(b"localhost"), 3),
        (query(b"1", b"2", b"3", b"4"), 3),
        (query(b"a b", b"example", b"com"), 3),
        (query(b"evil\0", b"example", b"com"), 3),
        (query(b"a.b", b"example\xff", b"com"), 3),
        (query(b"web", b"example", b"com", family=3), 5),
        (query(b"web", b"example", b"com", flags=0x2800), 4),
        (query(b"web", b"example", b"com", counts=(2, 0, 0, 0)), 1),
        (HEADER.pack(7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\x01\0\x01", 1),
        (WEB[:-1], 1),
    ],
)
def test_what_is_not_a_plain_question_has_a_code_and_no_address(message: bytes, code: int) -> None:
    assert ask(message) == (code, [])


@pytest.mark.parametrize("message", [b"", b"\0" * 11, query(b"a", b"bc", flags=0x8000)])
def test_what_is_no_question_has_no_reply(message: bytes) -> None:
    assert answer(message, Names()) is None


def test_names_are_limited() -> None:
    names = Names(limit=2)
    for name in (b"aa", b"bb"):
        assert ask(query(name, b"com"), names)[0] == 0
    assert ask(query(b"cc", b"com"), names) == (2, [])
    assert ask(query(b"aa", b"com"), names)[0] == 0


def test_more_than_one_octet_of_names_stay_apart() -> None:
    names = Names()
    found = {names.address(f"n{i}.example.com") for i in range(4096)}
    assert len(found) == 4096
    assert names.address("one.too.many") is None
    assert all(str(address).startswith("127.") for address in found)


@given(st.binary(max_size=600))
@example(WEB + b"\0" * 100)
def test_no_message_makes_it_fail(message: bytes) -> None:
    reply = answer(message, Names())
    assert reply is None or reply[:2] == message[:2]


@given(st.binary(max_size=300))
def test_no_question_makes_it_fail(rest: bytes) -> None:
    assert answer(HEADER.pack(7, 0x0100, 1, 0, 0, 0) + rest, Names()) is not None
