import pytest

from bot.description import MAX_PART, defused, description
from bot.progress import View
from integrations.channel import Step, StepState
from tests.support.builders import a_task


def test_it_says_who_asked_where_and_what() -> None:
    text = description(a_task(prompt="fix it\nsoon"), View(said="Fixed.", agent="script"))
    assert text.startswith(
        "Fixed.\n\nAsked by dana in [this conversation](https://example.com/p1):"
    )
    assert "\n> fix it\n> soon\n" in text
    assert "`01task`" in text
    assert "agent `script`" in text


def test_without_a_link_it_names_the_conversation() -> None:
    assert "`fake:T0:C0WEB:1.0`" in description(a_task(link=""), View())


def test_checks_are_listed() -> None:
    view = View(checks=(Step(title="verify: make `x`", state=StepState.DONE),))
    assert "Checks:\n- `verify: make x`: done" in description(a_task(), view)


@pytest.mark.parametrize(
    "live", ["@everyone", "<img src=x>", "<!-- hidden", "</details>", "![x](http://x.example/a)"]
)
def test_words_of_others_call_nobody_and_load_nothing(live: str) -> None:
    task = a_task(prompt=live, requester_name=live)
    assert live not in description(task, View(said=live))
    assert defused(live).replace("\u200b", "") == live


@pytest.mark.parametrize("plain", ["a < b", "wow! [1]", "if x <= y"])
def test_plain_words_stay_as_they_are(plain: str) -> None:
    assert defused(plain) == plain


@pytest.mark.parametrize("opening", ["```", "````sh", "~~~", "   ```python"])
def test_an_open_code_block_does_not_swallow_who_asked(opening: str) -> None:
    lines = description(a_task(), View(said=f"see\n{opening}\ncode")).splitlines()
    closing = opening.strip().rstrip("shpyton")
    assert lines[:4] == ["see", opening, "code", closing]


def test_a_closed_code_block_stays_as_it_is() -> None:
    assert description(a_task(), View(said="```\ncode\n```")).startswith("```\ncode\n```\n\nAsked")


def test_its_size_is_bounded() -> None:
    many = tuple(Step(title="x" * 1000, state=StepState.DONE) for _ in range(100))
    text = description(a_task(prompt="\n" * 90_000), View(said="y" * 90_000, checks=many))
    assert len(text) < 6 * MAX_PART
