"""The pictures in the documents are of what is really sent."""

import re

import pytest

from tests.support.slack_pictures import FOLDER, PICTURES, picture


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_a_picture_shows_the_blocks_of_today(name: str) -> None:
    drawn = picture(PICTURES[name])
    assert (FOLDER / f"{name}.svg").read_text() == drawn, "python -m tests.support.slack_pictures"


def test_no_other_pictures_are_kept() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(PICTURES)


def test_a_picture_says_all_that_the_message_says() -> None:
    said = re.sub(r"<[^>]*>", "", picture(PICTURES["card"])).replace("&#160;", " ")
    for fact in ("Fix the flaky login test", "#web", "2 of 4 steps", "$0.31", "Stop", "Details"):
        assert fact in said
