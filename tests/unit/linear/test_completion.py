from datetime import UTC, datetime
from typing import Any

import pytest

from integrations.channel import Conversation, Inbound
from integrations.linear.answers import Comment, Issue, Request
from integrations.linear.completion import begun_by_us, completed_session, completed_ticket, nothing
from integrations.linear.context import context_of
from integrations.linear.events import MAX_CONTEXT, Installation

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
US = Installation(organization_id="o1", app_user_id="app", app_name="errand")
PUBLIC = "https://errand.example"
INBOUND = Inbound(
    event_id="d1", semantic_key="session:s1",
    conversation=Conversation(channel="linear", team="o1", place="ENG", thread="s1"),
    message_id="i1", author="linear:dana@acme.example", author_name="Dana", text="raw",
    addressed=True, received_at=NOW, partial=True, context="raw", guidance="Use uv.",
)  # fmt: skip


def comment(
    body: str, *, user: str | None = "dana", minute: int = 0, id_: str = ""
) -> dict[str, Any]:
    return {
        "id": id_ or body, "body": body, "createdAt": NOW.replace(minute=minute).isoformat(),
        "user": {"id": user, "name": user.title()} if user else None,
    }  # fmt: skip


def an_issue(**more: Any) -> dict[str, Any]:
    known = {
        "id": "i1", "identifier": "ENG-12", "title": "Fix it", "description": "Soon",
        "url": "https://linear.app/acme/issue/ENG-12", "branchName": "eng-12-fix-it", "priority": 1,
        "team": {"key": "ENG"}, "state": {"name": "Todo", "type": "unstarted"},
        "creator": {"id": "dana"},
    }  # fmt: skip
    return known | more


def a_request(**more: Any) -> Request:
    known: dict[str, Any] = {
        "id": "s1", "createdAt": NOW.replace(minute=30).isoformat(), "appUser": {"id": "app"},
        "creator": {"id": "dana", "name": "Dana", "email": "dana@acme.example"},
        "externalLinks": [], "issue": an_issue(),
    }  # fmt: skip
    return Request.model_validate(known | more)


@pytest.mark.parametrize(
    ("more", "ours"),
    [
        ({}, False),
        ({"externalLinks": [{"url": f"{PUBLIC}/tasks/01J?key=k"}]}, True),
        ({"externalLinks": [{"url": f"{PUBLIC}.evil.example/tasks/01J"}]}, False),
        ({"creator": {"id": "app"}}, True),
        ({"creator": None}, False),
        ({"creator": None, "issue": an_issue(creator={"id": "app"})}, True),
        ({"issue": an_issue(creator={"id": "app"})}, False),
        ({"creator": None, "issue": None}, False),
    ],
)
def test_a_session_of_ours_is_known_by_its_page_or_its_ticket(
    more: dict[str, Any], *, ours: bool
) -> None:
    assert begun_by_us(a_request(**more), PUBLIC) is ours


def test_a_delegated_ticket_is_its_own_words() -> None:
    root = comment("This thread is for an agent session with Errand.", user=None)
    whole = completed_session(INBOUND, a_request(comment=root), US)
    assert (whole.title, whole.text, whole.partial) == ("Fix it", "Fix it\n\nSoon", False)
    assert (whole.branch, whole.priority, whole.item) == ("eng-12-fix-it", 1, "ENG-12")
    assert whole.guidance == "Use uv."


@pytest.mark.parametrize(
    ("request_more", "text"),
    [
        ({"comment": comment("@errand do this")}, "do this"),
        ({"comment": comment("do this", user="dana")}, "do this"),
        ({"comment": comment("via Slack: @errand do this", user=None)}, "via Slack: do this"),
        ({"comment": comment("root") | {"children": {"nodes": [
            comment("@errand do this", minute=5), comment("and that", minute=6),
            comment("@errand too late", minute=45)]}}}, "do this"),
        ({"comment": comment("root"), "sourceComment": comment("@errand elsewhere")}, "elsewhere"),
    ],
)  # fmt: skip
def test_a_mention_is_the_comment_that_names_us(request_more: dict[str, Any], text: str) -> None:
    assert completed_session(INBOUND, a_request(**request_more), US).text == text


def test_only_open_blockers_are_waited_for() -> None:
    relations = {
        "nodes": [
            {"type": "blocks", "issue": {"identifier": "ENG-1", "state": {"type": "started"}}},
            {"type": "blocks", "issue": {"identifier": "ENG-2", "state": {"type": "completed"}}},
            {"type": "related", "issue": {"identifier": "ENG-3", "state": {"type": "started"}}},
            {"type": "blocks", "issue": {"identifier": "ENG-4", "state": {"type": "somethingNew"}}},
        ]
    }
    whole = completed_session(INBOUND, a_request(issue=an_issue(inverseRelations=relations)), US)
    assert whole.waits_for == ("ENG-1", "ENG-4")


@pytest.mark.parametrize(("given", "kept"), [(0, 0), (4, 4), (5, 0), (-1, 0), (2.4, 2)])
def test_a_priority_is_one_of_linears(given: float, kept: int) -> None:
    assert (
        completed_session(INBOUND, a_request(issue=an_issue(priority=given)), US).priority == kept
    )


def test_what_was_newly_set_stays_alone() -> None:
    labels = {"nodes": [{"name": "bug"}, {"name": "errand"}]}
    issue = Issue.model_validate(an_issue(labels=labels))
    set_now = INBOUND.model_copy(update={"topics": ("linear:label:errand",)})
    assert completed_ticket(set_now, issue).topics == ("linear:label:errand",)
    assert completed_ticket(INBOUND, issue).topics == ("linear:label:bug", "linear:label:errand")


def test_a_session_without_a_ticket_is_passed_on() -> None:
    whole = completed_session(INBOUND, a_request(issue=None), US)
    assert (whole.partial, whole.text) == (False, "raw")


def test_nothing_is_nothing_that_anybody_answers() -> None:
    said = nothing(INBOUND.model_copy(update={"happening": "triggered"}))
    assert (said.happening, said.addressed, said.text, said.partial) == ("said", False, "", False)


def test_context_keeps_the_newest_and_says_what_is_missing() -> None:
    nodes = [comment(f"number {n} " + "x" * 1900, minute=n, id_=str(n)) for n in range(20)]
    issue = Issue.model_validate(an_issue(comments={"nodes": nodes}))
    text = context_of(issue, mentioned=False, thread=())
    assert len(text) <= MAX_CONTEXT + 100
    assert "number 19 " in text
    assert "number 0 " not in text
    assert "older ones are left out: " in text
    assert text.index("number 18 ") < text.index("number 19 ")


def test_context_tells_of_family_links_and_who_said_what() -> None:
    issue = Issue.model_validate(
        an_issue(
            parent={"identifier": "ENG-1", "title": "Epic"},
            children={"nodes": [{"identifier": "ENG-13", "title": "Part",
                                 "state": {"name": "Done", "type": "completed"}}]},
            attachments={"nodes": [{"title": "Log", "url": "https://log.example"}]},
            comments={"nodes": [
                comment("hello\x00"), comment("by a robot", user=None, minute=1) | {"botActor": {"name": "CI"}},
                comment("This thread is for an agent session with Errand.", user=None, minute=2),
            ]},
        )
    )  # fmt: skip
    before = [Comment.model_validate(comment("first in the thread"))]
    text = context_of(issue, mentioned=True, thread=before)
    for told in (
        "Ticket ENG-12 (Todo): Fix it", "\nSoon", "Part of ENG-1: Epic", "- ENG-13 (Done): Part",
        "- Log https://log.example", "Dana, 2026-11-20 12:00:\nhello", "CI, 2026-11-20 12:01:",
        "first in the thread",
    ):  # fmt: skip
        assert told in text
    assert "This thread is" not in text
    assert "\x00" not in text
