from dataclasses import replace

import pytest

from runner.inside.containment import (
    Containment,
    breaches,
    capabilities,
    interfaces,
    root_writable,
    status_fields,
)

GOOD = Containment(
    uid=10001, gid=10001, groups=(), capabilities=0, no_new_privs=True, seccomp=2, reachable=(), interfaces=("lo",),
    root_writable=False,
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
        (replace(GOOD, gid=0), "runs as root"),
        (replace(GOOD, groups=(999,)), "more groups (999)"),
        (replace(GOOD, capabilities=0x20), "capabilities (20)"),
        (replace(GOOD, no_new_privs=False), "no-new-privileges"),
        (replace(GOOD, seccomp=0), "no filter"),
        (replace(GOOD, reachable=("AF_VSOCK", "io_uring")), "AF_VSOCK, io_uring"),
        (replace(GOOD, interfaces=("lo", "eth0")), "eth0"),
        (replace(GOOD, root_writable=True), "root file system"),
    ],
)
def test_each_breach_is_named(bad: Containment, sentence: str) -> None:
    assert len(breaches(bad)) == 1
    assert sentence in breaches(bad)[0]


def test_a_kernel_of_its_own_needs_no_filter_and_all_else() -> None:
    own = replace(GOOD, seccomp=0, reachable=("io_uring",))
    assert breaches(own, own_kernel=True) == ()
    assert len(breaches(replace(GOOD, reachable=("AF_ALG",)), own_kernel=True)) == 1


def test_the_kernels_tables_are_read() -> None:
    assert interfaces(DEVICES) == ("lo", "eth0")
    assert status_fields("Uid:\t1\t2\nCapEff:\t00ff\n")["CapEff"] == "00ff"


def test_a_capability_in_any_set_counts_and_a_set_that_is_not_told_is_full() -> None:
    none = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd"), "0" * 16)
    assert capabilities(none) == 0
    assert capabilities({**none, "CapAmb": "8"}) == 8
    assert capabilities({**none, "CapBnd": "4"}) == 4
    assert capabilities({}) == 15


@pytest.mark.parametrize(
    ("mounts", "writable"),
    [
        ("overlay / overlay ro,relatime 0 0\n", False),
        ("overlay / overlay rw,relatime 0 0\n", True),
        ("overlay / overlay ro 0 0\nproc /proc proc rw 0 0\n", False),
        ("overlay / overlay ro 0 0\ntmpfs / tmpfs rw 0 0\n", True),
        ("overlay / overlay rw,errors=remount-ro 0 0\n", True),
        ("", True),
    ],
)
def test_the_root_is_what_was_mounted_there_last(mounts: str, writable: bool) -> None:  # noqa: FBT001
    assert root_writable(mounts) is writable
