"""A secret does not come back, however an answer is cut."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runner.inside.redact import Redactor

FORMS = (b"sk-secret", b"c2stc2VjcmV0", b"Bearer sk-secret")


def redacted(*parts: bytes) -> bytes:
    redactor = Redactor(FORMS)
    return b"".join(redactor.feed(part) for part in parts) + redactor.end()


def test_a_secret_is_replaced_by_as_many_stars() -> None:
    assert redacted(b"key: sk-secret!") == b"key: *********!"
    assert redacted(b"Bearer sk-secret") == b"*" * 16
    assert redacted(b"sk-", b"sec", b"ret c2stc2VjcmV0") == b"********* ************"


def test_what_only_begins_like_one_goes_on() -> None:
    redactor = Redactor(FORMS)
    assert redactor.feed(b"data: x\n\n") == b"data: x\n\n"
    assert redactor.feed(b"sk-sec") == b""
    assert redactor.feed(b"ond ") == b"sk-second "
    assert redactor.end() == b""


@given(
    pieces=st.lists(st.sampled_from([*FORMS, b"sk-", b"Bearer ", b"secret", b"x", b"c2st"])),
    cuts=st.lists(st.integers(0, 100)),
)
def test_cuts_change_nothing_and_no_secret_is_left(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[a:b] for a, b in pairwise(places)]
    found = redacted(*parts)
    assert len(found) == len(data)
    assert not [form for form in FORMS if form in found]
