import json

import pytest

from runner.docker.transcript import Lines
from runner.errors import SandboxLostError


def a_line(n: int, **fields: object) -> bytes:
    return json.dumps({"n": n, "at": 1.5, "kind": "note", **fields}).encode() + b"\n"


def test_lines_may_come_in_any_pieces() -> None:
    lines, data = Lines(name="agent"), a_line(1) + a_line(2, text="ü") + a_line(3)
    found = [line for start in range(len(data)) for line in lines.feed(data[start : start + 1])]
    assert [line.n for line in found] == [1, 2, 3]
    assert found[1].model_dump()["text"] == "ü"


def test_a_line_that_was_broken_off_is_not_given() -> None:
    assert list(Lines(name="agent").feed(a_line(1)[:-1])) == []


@pytest.mark.parametrize("text", [b"Traceback\n", b"\n", b"[]\n", b'{"n": 1}\n', b"\xff\n"])
def test_what_is_no_line_loses_the_sandbox(text: bytes) -> None:
    with pytest.raises(SandboxLostError, match="agent"):
        list(Lines(name="agent").feed(text))


@pytest.mark.parametrize("second", [1, 3])
def test_a_line_out_of_turn_loses_the_sandbox(second: int) -> None:
    with pytest.raises(SandboxLostError):
        list(Lines(name="agent").feed(a_line(1) + a_line(second)))


def test_an_endless_line_loses_the_sandbox_before_it_fills_the_memory() -> None:
    lines = Lines(name="agent", limit=100)
    assert list(lines.feed(b"x" * 100)) == []
    with pytest.raises(SandboxLostError):
        list(lines.feed(b"x"))
