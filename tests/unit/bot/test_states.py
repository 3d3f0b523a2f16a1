import re
from pathlib import Path

import pytest

from bot.states import LIVE, MOVES, TERMINAL, IllegalMoveError, TaskState, check_move

DRAWING = Path(__file__).parents[3] / "docs" / "architecture.md"


def test_the_drawing_shows_exactly_the_moves() -> None:
    drawn = set(re.findall(r"^\s+(\w+) --> (\w+)", DRAWING.read_text(), re.MULTILINE))
    real = {(str(old), str(new)) for old, moves in MOVES.items() for new in moves}
    assert drawn == real


def test_terminal_states_never_change() -> None:
    assert all(not MOVES[state] for state in TERMINAL)


def test_every_live_state_leads_to_an_end() -> None:
    for state in LIVE:
        reached, frontier = {state}, {state}
        while frontier := {new for old in frontier for new in MOVES[old]} - reached:
            reached |= frontier
        assert reached & TERMINAL, state


def test_a_move_that_is_not_drawn_is_an_error() -> None:
    with pytest.raises(IllegalMoveError, match="from succeeded to running"):
        check_move(TaskState.SUCCEEDED, TaskState.RUNNING)
