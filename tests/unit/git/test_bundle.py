from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.bundle import read_header

SHA = "a" * 40


def test_refs_and_the_place_of_the_pack() -> None:
    head = f"# v2 git bundle\n-{'b' * 40} a subject\n{SHA} refs/heads/x\n{SHA} HEAD\n\n".encode()
    assert read_header(BytesIO(head + b"PACK")) == ({"refs/heads/x": SHA, "HEAD": SHA}, len(head))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PACK",
        b"# v3 git bundle\n@filter=blob:none\n\n",
        b"# v2 git bundle\n",
        f"# v2 git bundle\n{SHA} --upload-pack=x\n\n".encode(),
        f"# v2 git bundle\n{SHA[:-1]} refs/heads/x\n\n".encode(),
        b"# v2 git bundle\n" + f"{SHA} refs/heads/x\n".encode() * 2000,
        b"# v2 git bundle\n" + b"-" * 9000 + b"\n\n",
    ],
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"bundle|line"):
        read_header(BytesIO(content))


@given(st.binary())
def test_no_bytes_break_the_reader(content: bytes) -> None:
    with suppress(ValueError):
        read_header(BytesIO(b"# v2 git bundle\n" + content))
