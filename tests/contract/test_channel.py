"""What is true of every channel."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from pydantic import SecretStr
from rich.console import Console

from integrations.channel import (
    Card,
    Channel,
    Check,
    Conversation,
    Final,
    Mark,
    Notice,
    Opening,
    Option,
    Question,
    Reply,
    Step,
    StepState,
)
from integrations.console.channel import ConsoleChannel
from integrations.errors import RejectedError
from integrations.slack.channel import SlackChannel
from integrations.slack.client import SlackClient
from integrations.slack.config import SlackConfig
from integrations.slack.workspaces import OneWorkspace
from integrations.testing import FakeChannel
from integrations.testing_front import FakeFront
from tests.contract.linear.site import site_for
from tests.support.linear.server import linear_api
from tests.support.slack_api import BOT_TOKEN, slack_api

CARD = Card(
    task="01J", title="Fix it", repo="acme/web", repo_reason="default", agent="script",
    state="working", live=True, steps=(Step(title="look", state=StepState.RUNNING),), doing="ls",
)  # fmt: skip
HOSTILE = (
    "<!channel> @here [red]x[/red] <http://evil.example|safe> ``` \x1b[2J\x00 \u202e &amp; " * 200
)
REPLIES: list[Reply] = [
    CARD,
    Notice(text="Hello"),
    Question(text="Which?", options=(Option(label="a", words="a"), Option(label="b", words="b"))),
    Final(outcome="succeeded", text="Done it."),
    CARD.model_copy(
        update={
            "title": HOSTILE,
            "doing": HOSTILE,
            "repo": HOSTILE,
            "steps": (Step(title=HOSTILE, state=StepState.DONE),) * 60,
        }
    ),
    Notice(text=HOSTILE, error=True),
    Notice(text=""),
    Question(text=HOSTILE, options=(Option(label=HOSTILE, words=HOSTILE),) * 30),
    Final(
        outcome="failed",
        text=HOSTILE,
        tail=HOSTILE,
        pull_url="javascript:alert(1)",
        checks=(Check(command=HOSTILE, passed=False),) * 20,
        asked_by=HOSTILE,
    ),
    Final(outcome="stopped", text="", tail="`"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A channel, and a request in it that somebody has made."""

    channel: Channel
    conversation: Conversation
    message_id: str


@pytest.fixture(params=["fake", "console", "slack", "linear"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        match request.param:
            case "fake":
                made = _place(FakeChannel())
            case "console":
                out = Console(file=StringIO(), width=80)
                made = _place(ConsoleChannel(out=out, user="dana"))
            case "slack":
                made = await _slack(stack)
            case _:
                made = await _linear(stack)
        stack.push_async_callback(made.channel.close)
        yield made


def _place(channel: Channel, thread: str = "1") -> Place:
    conversation = Conversation(channel=channel.name, team="T0ACME", place="C0WEB", thread=thread)
    return Place(channel=channel, conversation=conversation, message_id=thread)


async def _slack(stack: AsyncExitStack) -> Place:
    api = await stack.enter_async_context(slack_api())
    config = SlackConfig(
        bot_token=SecretStr(BOT_TOKEN), app_token=SecretStr("xapp-1"), api_url=api.url
    )
    workspaces = OneWorkspace(SlackClient(config))
    channel = SlackChannel(config, front=FakeFront(), workspaces=workspaces)
    return _place(channel, api.say("C0WEB", "<@U0ERRAND> fix it", user="U0DANA"))


async def _linear(stack: AsyncExitStack) -> Place:
    api = await stack.enter_async_context(linear_api())
    site = await stack.enter_async_context(site_for(api))
    await site.install()
    session = await site.delegated()
    return Place(
        channel=site.channel,
        conversation=site.conversation(session),
        message_id=session.issue.id,
    )


@pytest.fixture
def since() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=1)


async def test_what_was_posted_is_found_by_its_key(place: Place, since: datetime) -> None:
    first = await place.channel.post(place.conversation, CARD, key="k1")
    second = await place.channel.post(place.conversation, CARD, key="k2")

    assert first != second
    assert await place.channel.find(place.conversation, key="k1", since=since) == first
    assert await place.channel.find(place.conversation, key="k2", since=since) == second


async def test_what_was_never_posted_is_not_found(place: Place, since: datetime) -> None:
    await place.channel.post(place.conversation, CARD, key="k1")
    elsewhere = place.conversation.model_copy(update={"thread": "1732104999.000100"})

    assert await place.channel.find(place.conversation, key="k9", since=since) is None
    assert await place.channel.find(elsewhere, key="k1", since=since) is None


async def test_a_message_is_still_found_after_edits_whether_or_not_it_can_change(
    place: Place, since: datetime
) -> None:
    posted = await place.channel.post(place.conversation, CARD, key="k1")
    for _ in range(2):
        await place.channel.edit(place.conversation, posted, Notice(text="new"))

    assert await place.channel.find(place.conversation, key="k1", since=since) == posted


async def test_editing_what_is_not_there_is_rejected(place: Place) -> None:
    with pytest.raises(RejectedError):
        await place.channel.edit(place.conversation, "1732104999.000900", CARD)


@pytest.mark.parametrize("mark", list(Mark))
async def test_marks_are_safe_twice(place: Place, mark: Mark) -> None:
    for present in (True, True, False, False):
        await place.channel.mark(place.conversation, place.message_id, mark, present=present)


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.kind)
async def test_every_reply_can_be_posted_and_edited(place: Place, reply: Reply) -> None:
    posted = await place.channel.post(place.conversation, reply, key="k1")
    await place.channel.edit(place.conversation, posted, reply)


async def test_a_conversation_of_ours_is_begun_once_and_can_be_spoken_in(place: Place) -> None:
    where = place.conversation.model_copy(update={"thread": ""})
    opening = Opening(title="Fix it", text="asked by dana in ENG", url="http://127.0.0.1/tasks/1")
    try:
        begun = [await place.channel.open(where, opening, key="k1") for _ in range(2)]
    except RejectedError:
        assert place.conversation.channel == "console"
        return
    assert begun[0] == begun[1]
    assert begun[0].thread
    assert await place.channel.open(where, opening, key="k2") != begun[0]
    await place.channel.post(begun[0], CARD, key="k3")


async def test_close_is_safe_twice(place: Place) -> None:
    await place.channel.post(place.conversation, CARD, key="k1")
    await place.channel.close()
    await place.channel.close()
