"""The Slack channel against a Web API that fails in the ways Slack's does."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from integrations.channel import Conversation, Mark, Notice
from integrations.errors import (
    AuthError,
    IntegrationError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from integrations.slack.channel import SlackChannel
from integrations.slack.client import SlackClient
from integrations.slack.config import SCOPES, SlackConfig
from integrations.slack.workspaces import OneWorkspace
from integrations.testing_front import FakeFront
from tests.support.slack_api import APP_TOKEN, BOT_ID, BOT_TOKEN, Fault, SlackApi, slack_api

HELLO = Notice(text="Hello")
SINCE = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
async def api() -> AsyncIterator[SlackApi]:
    async with slack_api() as running:
        yield running


@pytest.fixture
def config(api: SlackApi) -> SlackConfig:
    return SlackConfig(
        bot_token=SecretStr(BOT_TOKEN), app_token=SecretStr(APP_TOKEN), api_url=api.url
    )


@pytest.fixture
async def channel(config: SlackConfig) -> AsyncIterator[SlackChannel]:
    client = SlackClient(config, timeout_seconds=1)
    made = SlackChannel(config, front=FakeFront(), workspaces=OneWorkspace(client))
    yield made
    await made.close()


@pytest.fixture
def conversation(api: SlackApi) -> Conversation:
    thread = api.say("C0WEB", "<@U0ERRAND> fix it", user="U0DANA")
    return Conversation(channel="slack", team="T0ACME", place="C0WEB", thread=thread)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=429, code="ratelimited", retry_after="7"), RateLimitedError),
        (Fault(status=429, body="slow down", content_type="text/plain"), RateLimitedError),
        (Fault(code="ratelimited"), RateLimitedError),
        (Fault(code="invalid_auth"), AuthError),
        (Fault(code="token_revoked"), AuthError),
        (Fault(code="account_inactive"), AuthError),
        (Fault(code="missing_scope"), AuthError),
        (Fault(code="no_permission"), RejectedError),
        (Fault(code="access_denied"), RejectedError),
        (Fault(code="channel_not_found"), RejectedError),
        (Fault(code="is_archived"), RejectedError),
        (Fault(code="not_in_channel"), RejectedError),
        (Fault(code="msg_too_long"), RejectedError),
        (Fault(code="internal_error"), UnavailableError),
        (Fault(status=500), UnavailableError),
        (Fault(status=502, body="<html>", content_type="text/html"), UnavailableError),
        (Fault(status=503, body="no", content_type="text/plain"), UnavailableError),
        (Fault(body="<html>", content_type="text/html"), UnavailableError),
        (Fault(body="please log in", content_type="text/plain"), UnavailableError),
        (Fault(body="{broken"), UnavailableError),
        (Fault(body="[]"), UnavailableError),
        (Fault(hang=True), UnavailableError),
    ],
)
async def test_every_failure_becomes_the_error_of_who_can_act(
    api: SlackApi,
    channel: SlackChannel,
    conversation: Conversation,
    fault: Fault,
    error: type[IntegrationError],
) -> None:
    api.fail("chat.postMessage", fault)

    with pytest.raises(IntegrationError) as raised:
        await channel.post(conversation, HELLO, key="k")

    assert type(raised.value) is error


async def test_a_rate_limit_says_how_long_to_wait(
    api: SlackApi, channel: SlackChannel, conversation: Conversation
) -> None:
    api.fail("chat.postMessage", Fault(status=429, code="ratelimited", retry_after="7"))

    with pytest.raises(RateLimitedError) as raised:
        await channel.post(conversation, HELLO, key="k")

    assert raised.value.retry_after == 7


async def test_a_scope_that_is_missing_for_marks_stops_nothing_else(
    api: SlackApi, channel: SlackChannel, conversation: Conversation
) -> None:
    api.fail("reactions.add", Fault(code="missing_scope"))

    with pytest.raises(RejectedError) as raised:
        await channel.mark(conversation, conversation.thread, Mark.SEEN, present=True)

    assert not isinstance(raised.value, AuthError)


async def test_slack_counts_posts_by_channel_and_the_rest_by_method(
    api: SlackApi, channel: SlackChannel, conversation: Conversation
) -> None:
    message = await channel.post(conversation, HELLO, key="k")
    for method in ("chat.postMessage", "chat.update"):
        api.fail(method, Fault(status=429, code="ratelimited", retry_after="7"))

    with pytest.raises(RateLimitedError) as post:
        await channel.post(conversation, HELLO, key="k2")
    with pytest.raises(RateLimitedError) as edit:
        await channel.edit(conversation, message, HELLO)

    assert (post.value.scope, edit.value.scope) == ("place", "method")


async def test_slack_out_of_reach_is_unavailable(conversation: Conversation) -> None:
    config = SlackConfig(
        bot_token=SecretStr("x"), app_token=SecretStr("x"), api_url="http://127.0.0.1:9/api/"
    )
    channel = SlackChannel(config, front=FakeFront(), workspaces=OneWorkspace(SlackClient(config)))
    with pytest.raises(UnavailableError):
        await channel.post(conversation, HELLO, key="k")
    await channel.close()


async def test_a_post_whose_answer_was_lost_is_sent_once_and_found(
    api: SlackApi, channel: SlackChannel, conversation: Conversation
) -> None:
    api.fail("chat.postMessage", Fault(status=500, when="after"))

    with pytest.raises(UnavailableError):
        await channel.post(conversation, HELLO, key="k")
    found = await channel.find(conversation, key="k", since=SINCE)

    assert [name for name, _ in api.calls].count("chat.postMessage") == 1
    assert found == api.messages["C0WEB"][-1]["ts"]


async def test_a_message_is_found_on_a_later_page(
    api: SlackApi, channel: SlackChannel, conversation: Conversation
) -> None:
    api.page_size = 1
    for n in range(60):
        api.say("C0WEB", f"chatter {n}", thread=conversation.thread, user="U0LEE")
    posted = await channel.post(conversation, HELLO, key="k")

    assert await channel.find(conversation, key="k", since=SINCE) == posted


async def test_a_thread_that_leads_in_a_circle_is_not_followed_for_ever(
    api: SlackApi, channel: SlackChannel, conversation: Conversation
) -> None:
    body = '{"ok": true, "messages": [], "response_metadata": {"next_cursor": "2"}}'
    api.fail("conversations.replies", Fault(body=body), times=1000)

    with pytest.raises(UnavailableError, match="in a circle"):
        await channel.find(conversation, key="k", since=SINCE)


async def test_another_bot_with_our_key_is_not_us(
    api: SlackApi, channel: SlackChannel, conversation: Conversation
) -> None:
    metadata = {"event_type": "errand_reply", "event_payload": {"key": "k"}}
    api.say("C0WEB", "me", thread=conversation.thread, bot_id=f"{BOT_ID}X", metadata=metadata)

    assert await channel.find(conversation, key="k", since=SINCE) is None


async def test_posts_go_to_the_thread_and_unfurl_nothing(
    api: SlackApi, channel: SlackChannel, conversation: Conversation
) -> None:
    await channel.post(conversation, HELLO, key="k")

    _, args = api.calls[-1]
    assert args["thread_ts"] == conversation.thread
    assert args["unfurl_links"] in {False, "0"}
    assert args["unfurl_media"] in {False, "0"}
    assert "reply_broadcast" not in args


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        (Mark.SEEN, "eyes"),
        (Mark.DONE, "checkered_flag"),
        (Mark.FAILED, "x"),
        (Mark.STOPPED, "octagonal_sign"),
    ],
)
async def test_a_mark_is_a_reaction(
    api: SlackApi, channel: SlackChannel, conversation: Conversation, mark: Mark, name: str
) -> None:
    await channel.mark(conversation, conversation.thread, mark, present=True)
    assert api.reactions == {("C0WEB", conversation.thread, name)}

    await channel.mark(conversation, conversation.thread, mark, present=False)
    assert api.reactions == set()


async def test_marking_what_is_gone_is_rejected(
    channel: SlackChannel, conversation: Conversation
) -> None:
    with pytest.raises(RejectedError):
        await channel.mark(conversation, "1732109999.000100", Mark.SEEN, present=True)


async def test_check_finds_nothing_wrong_with_a_good_app(channel: SlackChannel) -> None:
    assert await channel.check() == []


async def test_check_says_nothing_of_scopes_that_slack_does_not_tell(
    api: SlackApi, channel: SlackChannel
) -> None:
    api.scopes = None
    assert await channel.check() == []


@pytest.mark.parametrize(
    ("method", "fault", "word"),
    [
        ("auth.test", Fault(code="token_revoked"), "ERRAND_SLACK__BOT_TOKEN"),
        ("auth.test", Fault(code="team_not_found"), "ERRAND_SLACK__BOT_TOKEN"),
        ("auth.test", Fault(status=503), "check the network"),
        ("apps.connections.open", Fault(code="invalid_auth"), "ERRAND_SLACK__APP_TOKEN"),
        ("apps.connections.open", Fault(status=500), "Socket Mode could not be tried"),
    ],
)
async def test_check_says_what_to_do(
    api: SlackApi, channel: SlackChannel, method: str, fault: Fault, word: str
) -> None:
    api.fail(method, fault)

    [problem] = await channel.check()

    assert word in problem


async def test_check_names_the_missing_scopes(api: SlackApi, channel: SlackChannel) -> None:
    missing = {"channels:history", "reactions:write", "users:read"}
    api.scopes = ",".join(SCOPES.keys() - missing)

    [problem] = await channel.check()

    assert "channels:history, reactions:write, users:read" in problem
    assert "manifest.yml" in problem


@pytest.mark.parametrize(
    ("names", "shown"), [(("dana", "Dana D."), "dana"), (("", "Dana D."), "Dana D.")]
)
async def test_a_person_is_asked_for_once(
    api: SlackApi, channel: SlackChannel, names: tuple[str, str], shown: str
) -> None:
    api.people["U0DANA"] = names
    assert await channel.name_of("slack:U0DANA") == shown
    assert await channel.name_of("slack:U0DANA") == shown
    assert [name for name, _ in api.calls].count("users.info") == 1


async def test_an_unknown_person_is_an_error(channel: SlackChannel) -> None:
    with pytest.raises(RejectedError):
        await channel.name_of("slack:U0NOBODY")
