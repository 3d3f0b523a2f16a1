from dataclasses import replace

import pytest

from runner.inside.containment import Containment, breaches, interfaces, status_fields

GOOD = Containment(
    uid=10001, gid=10001, cap_eff=0, no_new_privs=True, seccomp=2, interfaces=("lo",), root_writable=False
)  # fmt: skip
DEVICES = """Inter-|   Receive  | Transmit
 face |bytes    packets |bytes
    lo:       0       0
  eth0:    1000      10
"""


def test_what_was_promised_has_no_breach() -> None:
    assert breaches(GOOD) == ()
    assert breaches(replace(GOOD, interfaces=())) == ()


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (replace(GOOD, uid=0), "runs as root"),
        (replace(GOOD, cap_eff=0x20), "capabilities (20)"),
        (replace(GOOD, no_new_privs=False), "no-new-privileges"),
        (replace(GOOD, interfaces=("lo", "eth0")), "eth0"),
    ],
)
def test_each_breach_is_named(bad: Containment, sentence: str) -> None:
    assert len(breaches(bad)) == 1
    assert sentence in breaches(bad)[0]


def test_the_kernels_tables_are_read() -> None:
    assert interfaces(DEVICES) == ("lo", "eth0")
    assert status_fields("Uid:\t1\t2\nCapEff:\t00ff\n")["CapEff"] == "00ff"
