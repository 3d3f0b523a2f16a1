import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.inside.wire import Junk, Letter, Transcript, bounded_lines, encode, letters

json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=20) | st.just("x" * 2_000),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


def transcript(total: int = 100_000) -> tuple[Transcript, io.BytesIO, list[str]]:
    out, ends = io.BytesIO(), list[str]()
    made = Transcript(out, total_bytes=total, now=lambda: 12.3456, end=lambda: ends.append("end"))
    return made, out, ends


def written(out: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_lines_are_numbered_and_dated() -> None:
    made, out, _ = transcript()
    made.write("ready")
    made.write("agent", msg={"id": 1})
    assert written(out) == [
        {"n": 1, "at": 12.346, "kind": "ready"},
        {"n": 2, "at": 12.346, "kind": "agent", "msg": {"id": 1}},
    ]


def test_the_limit_of_all_lines_is_the_last_word() -> None:
    made, out, ends = transcript(3_000)
    for _ in range(100):
        made.write("output", text="x" * 100)
    lines = written(out)
    assert lines[-1]["kind"] == "fatal"
    assert lines[-1]["reason"] == "transcript limit"
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(out.getvalue()) <= 3_000
    assert ends == ["end"]


def test_a_transcript_that_cannot_be_written_ends_the_program() -> None:
    made, out, ends = transcript()
    out.close()
    made.write("ready")
    assert ends == ["end"]


@settings(max_examples=50)
@given(
    st.dictionaries(st.text(max_size=5), json_values, max_size=4),
    st.integers(min_value=300, max_value=3_000),
)
def test_an_encoded_line_is_one_line_of_json(record: dict[str, Any], limit: int) -> None:
    line = encode(record, limit=limit)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert isinstance(json.loads(line), dict)


def test_a_long_text_is_cut_with_a_note() -> None:
    line = encode({"n": 1, "text": "x" * 500_000})
    assert len(line) <= 256 * 1024
    assert "characters cut" in json.loads(line)["text"]


def test_a_message_with_too_many_members_keeps_its_identity() -> None:
    many = {str(i): "x" for i in range(30_000)}
    line = encode({"n": 1, "kind": "agent", "msg": {"id": 3, "method": "m", "params": many}})
    assert json.loads(line)["msg"] == {"id": 3, "method": "m"}
    assert len(line) < 1_000


def read(data: bytes, limit: int = 1_000) -> list[Letter | Junk]:
    return list(letters(io.BytesIO(data), limit=limit))


def line(key: object, to: object = "init", msg: object = None) -> bytes:
    return json.dumps({"key": key, "to": to, "msg": {} if msg is None else msg}).encode() + b"\n"


def test_a_key_is_seen_once() -> None:
    found = read(line("a") + line("b") + line("a") + b"\n\n" + line("b"))
    assert [letter.key for letter in found if isinstance(letter, Letter)] == ["a", "b"]


@pytest.mark.parametrize(
    "data",
    [
        b"{\n", b"[]\n", b"1\n", line(1), line(""), line("x" * 300), line("a", "nobody"),
        line("a", "init", "text"), b"x" * 2_000 + b"\n", b"\xff\xfe\n", b"[" * 900 + b"\n",
    ],
)  # fmt: skip
def test_what_is_no_letter_is_passed_over(data: bytes) -> None:
    first, second = read(data + line("next"))
    assert isinstance(first, Junk)
    assert isinstance(second, Letter)


@given(st.binary(max_size=300))
def test_reading_letters_never_fails(data: bytes) -> None:
    assert all(isinstance(found, Letter | Junk) for found in read(data, limit=50))


@given(st.lists(st.binary(max_size=40).filter(lambda b: b"\n" not in b)))
def test_lines_are_split_and_bounded(parts: list[bytes]) -> None:
    stream = io.BytesIO(b"".join(part + b"\n" for part in parts))
    found = list(bounded_lines(stream, 10))
    assert found == [(part[:10] if len(part) > 10 else part, len(part) > 10) for part in parts]
