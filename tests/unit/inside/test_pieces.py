from hypothesis import given
from hypothesis import strategies as st

from runner.inside.pieces import PIECE_BYTES, PIECE_SECONDS, Pieces


def test_a_piece_is_due_when_its_first_byte_is_old_enough() -> None:
    pieces = Pieces(cap_bytes=1_000)
    assert pieces.wait_seconds(0.0) is None
    pieces.feed(b"a", 10.0)
    pieces.feed(b"b", 10.05)
    assert 0 < (pieces.wait_seconds(10.05) or 0) < PIECE_SECONDS
    assert pieces.wait_seconds(11.0) == 0.0
    assert pieces.take() == "ab"
    assert pieces.wait_seconds(11.0) is None


def test_a_piece_is_due_when_it_is_full() -> None:
    pieces = Pieces(cap_bytes=1_000_000)
    pieces.feed(b"x" * PIECE_BYTES, 10.0)
    assert pieces.wait_seconds(10.0) == 0.0


def test_what_exceeds_the_cap_is_dropped_with_one_note() -> None:
    pieces = Pieces(cap_bytes=10)
    said = []
    for _ in range(5):
        pieces.feed(b"123456", 0.0)
        said.append(pieces.take())
    assert said[0] == "123456"
    assert said[1].startswith("1234\n[")
    assert said[2:] == ["", "", ""]


@given(st.text(), st.integers(1, 5))
def test_text_is_whole_however_it_is_cut(text: str, size: int) -> None:
    pieces = Pieces(cap_bytes=1_000_000)
    data = text.encode()
    said = ""
    for at in range(0, len(data), size):
        pieces.feed(data[at : at + size], 0.0)
        said += pieces.take()
    assert said + pieces.take(final=True) == text
