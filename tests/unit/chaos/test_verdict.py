"""A verdict that never fails would show nothing."""

import dataclasses
from typing import Any

import pytest

from tests.chaos.verdict import Count, Verdict

GOOD = Verdict(
    tasks=Count(found=5, wanted=5), starts=Count(found=5, wanted=5),
    posts=Count(found=9, wanted=9), pulls=Count(found=5, wanted=5),
)  # fmt: skip


def test_the_line_tells_every_count() -> None:
    assert GOOD.line == ("tasks 5/5 starts 5 doubled 0 posts 9/9 doubled 0 lost 0 prs 5 doubled 0")
    assert GOOD.holds


@pytest.mark.parametrize("name", ["tasks", "starts", "posts", "pulls"])
@pytest.mark.parametrize(
    "count", [Count(found=4, wanted=5), Count(found=6, wanted=5), Count(found=5, wanted=5, doubled=1)]
)  # fmt: skip
def test_anything_lost_or_doubled_is_found(name: str, count: Count) -> None:
    changed: dict[str, Any] = {name: count}
    assert not dataclasses.replace(GOOD, **changed).holds


def test_anything_left_behind_is_found() -> None:
    assert not dataclasses.replace(GOOD, wrong=["container 1 is left"]).holds
