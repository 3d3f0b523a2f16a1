import sys

import pytest

from runner.inside.gitservice import Session

SEAM = b"0014\x02"


@pytest.mark.parametrize("at", [0, 7, 19])
def test_a_refusal_is_read_across_the_seams_of_its_packets(at: int) -> None:
    said = b"fatal: fsck error in pack objects"
    report = b"0040\x02" + said[:at] + SEAM + said[at:] + b"\n"
    program = f"import sys; sys.stdin.read(); sys.stdout.buffer.write({report!r})"
    session = Session([sys.executable, "-c", program], seconds=20)
    session.exchange([b"0000push"], out=lambda _data: None)
    assert session.refusal() == "git: fatal: fsck error in pack objects"
