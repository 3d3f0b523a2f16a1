import pytest

from integrations.channel import Final, Notice, Option, Question
from integrations.linear.speaking import REFUSED, plainly

PULL = "https://github.com/acme/web/pull/12"
HOSTILE = "@dana ![x](https://evil.example)"
OPTIONS = (Option(label="@dana", words="acme/api"), Option(label="![x](y)", words="acme/web"))


def test_a_question_keeps_its_choices() -> None:
    said = plainly(Question(text=HOSTILE, options=OPTIONS), kind="elicitation")
    assert said == {"type": "elicitation", "body": "Which of these? `acme/api`, `acme/web`"}


def test_a_last_word_keeps_how_it_ended_and_where_that_is() -> None:
    word = Final(outcome="succeeded", text=HOSTILE, pull_url=PULL, pull_label="#12")
    said = plainly(word, kind="response")
    assert said["type"] == "response"
    assert "Done" in said["body"]
    assert PULL in said["body"]


@pytest.mark.parametrize("kind", ["thought", "response", "error"])
def test_of_a_notice_only_its_kind_is_left(kind: str) -> None:
    assert plainly(Notice(text=HOSTILE), kind=kind) == {"type": kind, "body": REFUSED}


@pytest.mark.parametrize(
    "reply",
    [
        Notice(text=HOSTILE),
        Question(text=HOSTILE, options=()),
        Final(outcome="failed", text=HOSTILE, tail=HOSTILE),
    ],
)
def test_nobodys_words_are_left(reply: Notice | Question | Final) -> None:
    body = plainly(reply, kind="error")["body"]
    assert body
    assert "evil" not in body
    assert "dana" not in body
