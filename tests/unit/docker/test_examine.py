from pathlib import Path
from typing import Any

import pytest

from runner.docker.examine import (
    component,
    daemon_problems,
    runtime_problems,
    said_of,
    space_problems,
)

GOOD: dict[str, Any] = {
    "ServerVersion": "20.10.24+dfsg1",
    "OSType": "linux",
    "SecurityOptions": ["name=seccomp,profile=default"],
    "MemoryLimit": True,
    "SwapLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
}


def test_a_daemon_in_order_has_no_problems() -> None:
    assert daemon_problems(GOOD) == []
    assert daemon_problems({**GOOD, "ServerVersion": "29.0.1"}) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ServerVersion": "19.03.15"}, "install 20.10"),
        ({"OSType": "windows"}, "Linux"),
        ({"SecurityOptions": None}, "seccomp"),
        ({"SwapLimit": False}, "swapaccount=1"),
        ({"PidsLimit": False}, "processes"),
    ],
)
def test_each_problem_says_what_to_do(change: dict[str, Any], word: str) -> None:
    (problem,) = daemon_problems({**GOOD, **change})
    assert word in problem


def test_the_disk_of_a_daemon_elsewhere_is_not_judged() -> None:
    assert space_problems(Path("/nonexistent/docker")) == []


def test_a_part_that_docker_does_not_name_is_unknown() -> None:
    assert component({"Components": [{"Name": "runc", "Version": "1.1.5"}]}, "runc") == "1.1.5"
    assert component({}, "runc") == "unknown"


def test_gvisor_is_missed_only_where_it_is_demanded() -> None:
    shared = {"Runtimes": {"runsc": {"path": "/x", "runtimeArgs": ["--network=host"]}}}
    assert runtime_problems({}, "runc") == []
    assert runtime_problems(shared, "runsc") == []
    (missing,) = runtime_problems({"Runtimes": {"runc": {}}}, "runsc")
    assert "does not know" in missing
    (apart,) = runtime_problems({"Runtimes": {"runsc": {"path": "/x"}}}, "runsc")
    assert "without --network=host" in apart


HARD: dict[str, Any] = {
    "ServerVersion": "29.0.1",
    "Runtimes": {"runc": {}, "runsc": {}},
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"],
}


@pytest.mark.parametrize(
    ("runc", "mended"),
    [
        ("1.1.15", False), ("1.2.7", False), ("1.2.8", True), ("1.2.9", True), ("1.3.0", False), ("1.3.3", True),
        ("1.4.0", True), ("2.0.0", True), ("1.1.5+ds1", False), ("unknown", True),
    ],
)  # fmt: skip
def test_an_old_runc_is_named_with_what_to_do(runc: str, mended: bool) -> None:  # noqa: FBT001
    said = said_of(HARD, runc=runc)
    assert (said == []) is mended
    assert mended or "upgrade to 1.2.8, 1.3.3" in said[0]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ServerVersion": "20.10.24"}, "Docker Engine 20.10.24"),
        ({"Runtimes": {"runc": {}}}, "gVisor"),
        ({"SecurityOptions": ["name=seccomp"]}, "rootless"),
    ],
)
def test_what_would_be_harder_is_said(change: dict[str, Any], word: str) -> None:
    (said,) = said_of({**HARD, **change}, runc="1.3.3")
    assert word in said
