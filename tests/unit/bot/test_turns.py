"""Whose turn it is, of what waits to be started."""

import pytest

from bot.line import in_turn, in_words
from bot.store.rows import TaskRow
from tests.support.store import a_task


def _of(repo: str, n: int, priority: int = 0) -> TaskRow:
    return a_task(n, repo=repo, priority=priority)


def _names(tasks: list[TaskRow]) -> list[str]:
    return [task.repo for task in tasks]


def test_repositories_take_turns() -> None:
    waiting = [_of("a", 1), _of("a", 2), _of("a", 3), _of("b", 4), _of("c", 5)]
    assert _names(in_turn(waiting, [])) == ["a", "b", "c", "a", "a"]


def test_what_is_at_work_counts_as_a_turn_that_was_had() -> None:
    waiting = [_of("a", 1), _of("a", 2), _of("b", 3), _of("b", 4)]
    assert _names(in_turn(waiting, [_of("a", 8), _of("a", 9)])) == ["b", "b", "a", "a"]


def test_of_one_repository_the_oldest_is_next() -> None:
    waiting = [_of("a", 2), _of("a", 1)]
    assert in_turn(waiting, []) == waiting


def test_the_urgent_go_before_all_turns() -> None:
    waiting = [
        _of("a", 1, priority=1),
        _of("a", 2, priority=1),
        _of("b", 3),
        _of("c", 4, priority=4),
    ]
    assert _names(in_turn(waiting, [])) == ["a", "a", "b", "c"]


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (0, ""),
        (1, "waits in line, 1 before it"),
        (20, "waits in line, 20 before it"),
        (21, "waits in line, about 20 before it"),
        (87, "waits in line, about 90 before it"),
        (460, "waits in line, about 500 before it"),
        (None, "waits in line, more than 500 before it"),
    ],
)
def test_a_place_far_back_is_said_in_round_numbers(ahead: int | None, said: str) -> None:
    assert in_words(ahead) == said
