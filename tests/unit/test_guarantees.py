"""What is promised names its tests: they exist, and no fault is left out."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
ROW = re.compile(r"^\| (\d+) \| .+ \| (.+) \|$", re.MULTILINE)
FAULTS = 58


def _tests() -> set[str]:
    return {
        found.name
        for path in (ROOT / "tests").rglob("*.py")
        for found in ast.walk(ast.parse(path.read_text()))
        if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef)
        and found.name.startswith("test_")
    }


def test_every_test_that_a_promise_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    assert named - _tests() == set()


def test_every_fault_has_a_test_or_a_word_why_not() -> None:
    rows = ROW.findall(PAGE.partition("## Faults")[2].partition("\n## ")[0])
    assert [int(number) for number, _ in rows] == list(range(1, FAULTS + 1))
    for number, shown in rows:
        assert re.search(r"`test_|`make chaos`|not tested", shown), number
