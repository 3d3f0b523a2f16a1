from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.channel import Conversation, Inbound
from integrations.errors import MalformedPayloadError
from integrations.slack.events import Listener, parse_event
from integrations.slack.identity import Identity
from tests.support.slack_payloads import BOT, payload

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def parsed(raw: dict[str, Any], bot: Identity = BOT) -> Inbound | None:
    return parse_event(raw, listener=Listener(bot=bot), received_at=NOW)


def text_of(text: str) -> str:
    inbound = parsed(payload("message_im", text=text))
    assert inbound is not None
    return inbound.text


def test_a_mention_becomes_an_inbound() -> None:
    assert parsed(payload("app_mention")) == Inbound(
        event_id="Ev0MENTION01",
        semantic_key="T0ACME:C0WEB:1732104000.000100",
        conversation=Conversation(
            channel="slack", team="T0ACME", place="C0WEB", thread="1732104000.000100"
        ),
        message_id="1732104000.000100",
        author="slack:U0DANA",
        author_name="U0DANA",
        text="the login test is flaky since Monday, please fix",
        addressed=True,
        link="https://acme.example/archives/C0WEB/p1732104000000100",
        received_at=NOW,
        standing="unknown",
        partial=True,
    )


def test_both_events_of_one_post_say_the_same() -> None:
    mention, message = parsed(payload("app_mention")), parsed(payload("message_with_mention"))

    assert mention is not None
    assert message is not None
    assert message.event_id != mention.event_id
    assert message == mention.model_copy(update={"event_id": message.event_id})


def test_a_reply_in_a_thread_is_not_addressed() -> None:
    inbound = parsed(payload("message_thread_reply"))

    assert inbound is not None
    assert not inbound.addressed
    assert inbound.conversation.thread == "1732104000.000100"
    assert inbound.text == "also bump the timeout in https://github.com/acme/web/blob/main/ci.yml"
    assert inbound.link.endswith("/p1732104060000200?thread_ts=1732104000.000100&cid=C0WEB")


def test_a_direct_message_is_addressed_and_keeps_its_code() -> None:
    inbound = parsed(payload("message_im"))

    assert inbound is not None
    assert inbound.addressed
    assert inbound.text == "fix this:\n```if a < b && c:\n    return  1```"


@pytest.mark.parametrize("name", ["message_file_share", "message_thread_broadcast"])
def test_files_and_broadcasts_are_things_that_people_say(name: str) -> None:
    assert parsed(payload(name)) is not None


@pytest.mark.parametrize(
    "name",
    [
        "message_channel",
        "message_bot",
        "message_own",
        "message_deleted",
        "message_channel_join",
        "app_uninstalled",
        "app_home_opened",
    ],
)
def test_what_nobody_said_to_us_is_ignored(name: str) -> None:
    assert parsed(payload(name)) is None


@pytest.mark.parametrize(
    "event",
    [{"bot_id": "B0CI"}, {"user": "U0ERRAND"}, {"user": "USLACKBOT"}, {"user": None}],
    ids=str,
)
def test_bots_are_not_obeyed_even_when_they_mention_us(event: dict[str, object]) -> None:
    assert parsed(payload("app_mention", **event)) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<@U0ERRAND> fix it", "fix it"),
        ("<@U0ERRAND>: fix it", "fix it"),
        ("<@U0ERRAND|errand>, fix it", "fix it"),
        ("fix it, <@U0ERRAND>", "fix it,"),
        ("please <@U0ERRAND> fix it", "please fix it"),
        ("a\n<@U0ERRAND> b", "a\n b"),
        ("<@U0ERRAND> <@U0ERRAND> stop", "stop"),
        ("<@U0ERRAND>", ""),
        ("&lt;@U0ERRAND&gt; is no mention", "<@U0ERRAND> is no mention"),
        ("ask <@U0LEE> or <@U0SAM|sam>", "ask @U0LEE or @U0SAM"),
        ("see <#C0WEB|web> and <#C0API>", "see #web and #C0API"),
        (
            "<!channel> <!here|here> <!subteam^S1|@team> <!subteam^S2>",
            "@channel here @team @subteam",
        ),
        ("<!date^1392734382^{date}|Feb 18>", "Feb 18"),
        ("<https://a.example/?x=1&amp;y=2|label>", "https://a.example/?x=1&y=2"),
        ("<mailto:a@b.example|a@b.example>", "a@b.example"),
        ("a &lt; b &amp;&amp; c &gt; d", "a < b && c > d"),
        ("&amp;lt;", "&lt;"),
        ("a\x00b\x1b[31mc\u202ed", "abcd"),
        ("```\n  two  spaces\n\n  end\n```", "```\n  two  spaces\n\n  end\n```"),
    ],
)
def test_markup_becomes_what_a_person_typed(text: str, said: str) -> None:
    assert text_of(text) == said


def test_our_team_names_a_shared_channel() -> None:
    raw = payload("message_thread_reply")
    raw["team_id"] = "T0OTHER"

    inbound = parsed(raw)

    assert inbound is not None
    assert inbound.conversation.team == "T0ACME"


def test_without_the_workspace_address_there_is_no_link() -> None:
    bot = Identity(team_id="T0ACME", user_id="U0ERRAND", bot_id="B0ERRAND", url="")
    inbound = parsed(payload("app_mention"), bot)
    assert inbound is not None
    assert inbound.link == ""


@pytest.mark.parametrize(
    "event",
    [{"ts": None}, {"channel": None}, {"channel": "C0:WEB"}, {"ts": "now"}, {"text": 3}],
    ids=str,
)
def test_a_message_without_what_every_message_has_is_malformed(event: dict[str, object]) -> None:
    with pytest.raises(MalformedPayloadError):
        parsed(payload("app_mention", **event))


def test_an_error_does_not_repeat_what_was_said() -> None:
    with pytest.raises(MalformedPayloadError) as raised:
        parsed(payload("app_mention", ts="secret"))
    assert "secret" not in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["type", "subtype", "user", "bot_id", "text", "ts", "thread_ts", "channel", "channel_type"]
)


@given(changed=st.dictionaries(FIELDS, JSON, max_size=3))
def test_no_payload_raises_anything_else(changed: dict[str, object]) -> None:
    raw = payload("app_mention")
    raw["event"].update(changed)
    try:
        inbound = parsed(raw)
    except MalformedPayloadError:
        return
    assert inbound is None or inbound.model_dump_json()


@given(text=st.text())
def test_any_text_can_be_stored_and_shows_no_control_characters(text: str) -> None:
    said = text_of(text)
    said.encode()
    assert "\x00" not in said
    assert "\x1b" not in said
