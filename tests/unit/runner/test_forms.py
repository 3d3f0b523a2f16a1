"""A form of the agent, as questions to people."""

import json
from pathlib import Path
from typing import Any

import pytest
from acp import schema
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from runner.forms import MAX_FIELDS, MAX_OPTIONS, TEXT_CHARACTERS, Form, UnfitFormError, form_of

SAMPLE = Path(__file__).parents[2] / "samples/acp/claude-code-question.json"
CHOICE = {"type": "string", "enum": ["red", "blue"]}
TITLED = {
    "type": "string",
    "oneOf": [
        {"const": "pg", "title": "Postgres", "description": "what we run"},
        {"const": "lite", "title": "SQLite"},
    ],
}
SEVERAL = {"type": "array", "items": {"anyOf": TITLED["oneOf"]}}
TEXT = {"type": "string", "title": "Other"}


def form(message: str = "Which?", required: tuple[str, ...] = (), **properties: Any) -> Form:
    asked = {
        "mode": "form", "sessionId": "s1", "message": message,
        "requestedSchema": {"type": "object", "properties": properties, "required": list(required)},
    }  # fmt: skip
    request: Any = TypeAdapter(schema.CreateElicitationRequest).validate_python(asked)
    return form_of(request, request_id=5, name="5")


def accepted(**content: Any) -> dict[str, Any]:
    return {"action": "accept", "content": content}


def test_choices_are_options_with_what_is_said_about_them() -> None:
    question = form("Which database?", db=TITLED).question
    assert question.options == ("Postgres", "SQLite")
    assert question.text == "Which database?\n• Postgres: what we run"


@pytest.mark.parametrize("said", ["Postgres", " postgres ", "pg"])
def test_an_option_is_meant_by_its_label_or_its_value(said: str) -> None:
    assert form(db=TITLED).take(said) == accepted(db="pg")


def test_what_is_no_option_is_asked_again() -> None:
    made = form(colour=CHOICE)
    first = made.question
    assert made.take("green") is None
    again = made.question
    assert again.id != first.id
    assert again.options == ("red", "blue")
    assert "none of the answers" in again.text
    assert made.take("BLUE") == accepted(colour="blue")


def test_a_text_field_named_after_a_choice_takes_other_words() -> None:
    said = "MySQL, please"
    assert form(q=TITLED, q_custom=TEXT).question.options == ("Postgres", "SQLite")
    assert form(q=TITLED, q_custom=TEXT).take(said) == accepted(q_custom=said)
    assert form(q=TITLED, q_custom=TEXT).take("sqlite") == accepted(q="lite")


def test_several_questions_are_asked_one_after_the_other() -> None:
    made = form("Please answer.", name={"type": "string", "description": "Your name"}, size=CHOICE)
    assert made.question.text.startswith("Your name (1 of 2)\nPlease answer.")
    assert made.take("Dana") is None
    assert "size (2 of 2)" in made.question.text
    assert made.take("red") == accepted(name="Dana", size="red")


def test_several_options_can_be_chosen_in_words() -> None:
    assert form(db=SEVERAL).take("Postgres") == accepted(db=["pg"])
    assert form(db=SEVERAL).take("SQLite, postgres") == accepted(db=["lite", "pg"])
    assert form(db=SEVERAL).take("SQLite, Oracle") is None
    with_other = form(db=SEVERAL, db_custom=TEXT)
    assert with_other.take("SQLite, Oracle") == accepted(db=["lite"], db_custom="Oracle")


@pytest.mark.parametrize(
    ("kind", "said", "value"),
    [
        ("boolean", "Yes", True),
        ("boolean", "no", False),
        ("integer", "12", 12),
        ("number", "1.5", 1.5),
        ("string", "a word", "a word"),
    ],
)
def test_each_kind_is_read_as_what_it_is(kind: str, said: str, value: object) -> None:
    assert form(x={"type": kind}).take(said) == accepted(x=value)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("integer", "1.5"), ("number", "nan"), ("number", "many"), ("boolean", "perhaps")],
)
def test_what_does_not_fit_is_no_answer(kind: str, said: str) -> None:
    assert form(x={"type": kind}).take(said) is None


def test_what_is_optional_can_be_left_out() -> None:
    assert form(note={"type": "string"}).take("skip") == accepted()
    assert form(required=("note",), note={"type": "string"}).take("skip") == accepted(note="skip")


def test_a_form_without_fields_is_a_yes_or_no() -> None:
    assert form().question.options == ("Yes", "No")
    assert form().take("yes") == accepted()
    assert form().take("No") == {"action": "decline"}


@pytest.mark.parametrize(
    "properties",
    [
        {"x": {"type": "_vendor"}},
        {"x": {"type": "array", "items": {"type": "string", "enum": []}}},
        {f"x{n}": {"type": "boolean"} for n in range(MAX_FIELDS + 1)},
    ],
)
def test_what_cannot_be_asked_is_said(properties: dict[str, Any]) -> None:
    with pytest.raises(UnfitFormError):
        form(**properties)


def test_what_claude_code_really_asks_is_asked_of_people() -> None:
    asked = json.loads(SAMPLE.read_text())["params"]
    request: Any = TypeAdapter(schema.CreateElicitationRequest).validate_python(asked)
    made = form_of(request, request_id=0, name="0")
    assert made.question.options == ("Postgres", "SQLite")
    assert made.question.text.splitlines() == [
        "Which database? (1 of 2)",
        "Please answer the following questions.",
        "• Postgres: what we run",
        "• SQLite: a file",
    ]
    assert made.take("neither, use a file") is None
    assert made.question.options == ("lint", "tests")
    assert made.take("lint, and a smoke test") == accepted(
        question_0_custom="neither, use a file",
        question_1=["lint"],
        question_1_custom="and a smoke test",
    )


@given(st.lists(st.text(max_size=400), max_size=80), st.text(max_size=8000))
def test_a_question_stays_within_its_limits(options: list[str], message: str) -> None:
    question = form(message, x={"type": "string", "enum": options}).question
    assert len(question.text) <= TEXT_CHARACTERS
    assert len(question.options) <= MAX_OPTIONS
    assert all(0 < len(option) <= 150 for option in question.options)
