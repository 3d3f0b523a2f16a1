"""The stand-in's schema is a part of Linear's own. Needs LINEAR_SCHEMA (see CONTRIBUTING.md)."""

import pytest

from tests.support.linear.schema import (
    VARIABLE,
    additions,
    differences,
    official,
    official_path,
    part,
)


@pytest.fixture(autouse=True)
def _at_hand() -> None:
    if official_path() is None:
        pytest.fail(f"set {VARIABLE} to the path of Linear's official schema.graphql")


@pytest.mark.parametrize("name", ["schema", "webhooks"])
def test_what_we_have_is_in_the_official_schema(name: str) -> None:
    assert differences(part(name), official()) == []


def test_what_is_newer_is_not_in_it_yet() -> None:
    assert additions(part("newer"), official()) == []
