from pathlib import Path
from typing import Any

import pytest

from runner.docker.examine import component, daemon_problems, space_problems

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
