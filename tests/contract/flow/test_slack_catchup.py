"""What Slack said while nobody listened is found in its history, once, and as the event would have told it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from typing_extensions import override

from bot.front import HouseFront
from bot.in_force import InForce
from bot.store import inbox
from integrations.channel import Conversation, Inbound
from integrations.front import Front
from integrations.slack.catchup import MOST_WAITS, CatchUp
from integrations.slack.channel import SlackChannel
from integrations.slack.client import SlackClient
from integrations.slack.config import SlackConfig
from integrations.slack.identity import Identity
from integrations.slack.workspaces import OneWorkspace
from integrations.testing_front import FakeFront
from integrations.testing_notes import MemoryNotes
from policies.model import Policy
from tests.contract.flow.office import Office
from tests.support.slack_api import (
    APP_TOKEN,
    BOT_ID,
    BOT_TOKEN,
    BOT_USER,
    Fault,
    SlackApi,
    slack_api,
)
from tests.support.slack_payloads import payload

FIX = "<@U0ERRAND> fix it"
ROUND_SECONDS = 300.0


@dataclass(slots=True, kw_only=True)
class Missed:
    """`serve` that was on once, and is on again."""

    api: SlackApi
    office: Office
    front: Front = field(default_factory=FakeFront)
    notes: MemoryNotes = field(default_factory=MemoryNotes)
    now: datetime = datetime(2026, 11, 20, tzinfo=UTC)
    waited: list[float] = field(default_factory=list)
    config: SlackConfig = field(init=False)
    channel: SlackChannel = field(init=False)

    def __post_init__(self) -> None:
        self.config = SlackConfig(
            bot_token=SecretStr(BOT_TOKEN), app_token=SecretStr(APP_TOKEN), api_url=self.api.url
        )
        workspaces = OneWorkspace(SlackClient(self.config))
        self.channel = SlackChannel(
            self.config, front=self.front, workspaces=workspaces, notes=self.notes
        )

    def started(self) -> CatchUp:
        """As a process that has just begun."""
        catching_up = self.channel.catching_up(self.office.intake.receive, self.notes)
        catching_up.now, catching_up.pause = lambda: self.now, self._wait
        return catching_up

    async def _wait(self, seconds: float) -> None:
        self.waited.append(seconds)

    def say(self, place: str, text: str, thread: str | None = None, user: str = "U0DANA") -> str:
        """Somebody else does, now."""
        self.api._clock = int(self.now.timestamp())
        self.now += timedelta(seconds=1)
        return self.api.say(place, text, thread=thread, user=user)

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)

    async def stored(self) -> list[Inbound]:
        async with self.office.store.read() as conn:
            return [row.inbound for row in await inbox.raw(conn, limit=100)]


@pytest.fixture
async def missed(office: Office) -> AsyncIterator[Missed]:
    """It has been on: what is said from now on is missed."""
    async with slack_api() as api:
        made = Missed(api=api, office=office)
        api.keeps_time, api.messages["C0WEB"] = True, []
        await made.started().round()
        made.later(minutes=10)
        yield made
        await made.channel.close()


async def test_what_was_said_while_serve_was_off_is_found_once(missed: Missed) -> None:
    asked = missed.say("C0WEB", FIX)
    direct = missed.say("D0DANA", "and the tests")
    missed.say("C0WEB", "lunch?")
    missed.later(hours=2)
    catching_up = missed.started()
    await catching_up.round()
    await catching_up.round()
    await missed.started().round()

    one, other = await missed.stored()
    assert (one.semantic_key, one.text, one.addressed) == (f"T0ACME:C0WEB:{asked}", "fix it", True)
    assert one.conversation == Conversation(
        channel="slack", team="T0ACME", place="C0WEB", thread=asked
    )
    assert (other.message_id, other.addressed) == (direct, True)


@pytest.mark.parametrize("first", ["event", "history"])
async def test_what_is_delivered_and_found_is_one(missed: Missed, first: str) -> None:
    catching_up = missed.started()
    asked = missed.say("C0WEB", FIX)
    event = payload("app_mention", ts=asked, thread_ts=None, text=FIX, user="U0DANA")
    if first == "event":
        await catching_up.arrivals.take(event)
    await catching_up.round()
    await catching_up.arrivals.take(event)
    await catching_up.round()
    assert [one.text for one in await missed.stored()] == ["fix it"]


async def test_it_is_told_as_the_event_would_have_told_it(missed: Missed) -> None:
    asked = missed.say("C0WEB", FIX)
    event = payload("app_mention", ts=asked, thread_ts=None, text=FIX, user="U0DANA")
    await missed.started().round()
    [found] = await missed.stored()
    told: list[Inbound] = []

    async def receive(inbound: Inbound) -> bool:
        told.append(inbound)
        return True

    await missed.channel.catching_up(receive, missed.notes).arrivals.take(event)
    differs = {"event_id", "received_at"}
    assert found.model_dump(exclude=differs) == told[0].model_dump(exclude=differs)


async def test_replies_in_a_thread_with_work_are_found_however_old_it_is(missed: Missed) -> None:
    root = missed.say("C0WEB", FIX)
    front = FakeFront(
        under_way=(Conversation(channel="slack", team="T0ACME", place="C0WEB", thread=root),)
    )
    missed.channel._front = front
    missed.later(days=3)
    await missed.started().round()
    missed.later(minutes=20)
    missed.say("C0WEB", "also bump it", thread=root)
    await missed.started().round()
    [reply] = await missed.stored()
    assert (reply.text, reply.addressed, reply.conversation.thread) == ("also bump it", False, root)


async def test_a_mention_in_a_thread_of_today_is_found(missed: Missed) -> None:
    root = missed.say("C0WEB", "the build is red")
    missed.later(hours=2)
    await missed.started().round()
    missed.later(minutes=20)
    missed.say("C0WEB", FIX, thread=root)
    await missed.started().round()
    [asked] = await missed.stored()
    assert (asked.text, asked.conversation.thread) == ("fix it", root)


async def test_bots_our_own_and_the_day_before_are_left_alone(missed: Missed) -> None:
    missed.say("C0WEB", FIX)
    missed.later(hours=25)
    missed.api.say("C0WEB", FIX, user=BOT_USER, bot_id=BOT_ID)
    missed.api.say("C0WEB", FIX, user="U0CI", bot_id="B0CI")
    missed.api.say("C0WEB", FIX, user="U0LEE", subtype="channel_join")
    await missed.started().round()
    assert await missed.stored() == []


async def test_of_what_was_edited_since_the_newest_text_counts(missed: Missed) -> None:
    asked = missed.say("C0WEB", FIX)
    missed.api.messages["C0WEB"][0] |= {
        "text": "<@U0ERRAND> fix the login",
        "edited": {"user": "U0DANA", "ts": f"{float(asked) + 60:.6f}"},
    }
    await missed.started().round()
    assert [one.text for one in await missed.stored()] == ["fix the login"]


async def test_nothing_is_looked_for_before_it_was_there(missed: Missed) -> None:
    missed.say("C0WEB", FIX)
    missed.notes.kept.clear()
    await missed.started().round()
    assert await missed.stored() == []


async def test_a_rate_limit_waits_for_as_long_as_slack_says(missed: Missed) -> None:
    missed.say("C0WEB", FIX)
    limited = Fault(status=429, code="ratelimited", retry_after="60")
    missed.api.fail("conversations.history", limited, times=2)
    missed.waited.clear()
    await missed.started().round()
    assert len(await missed.stored()) == 1
    assert missed.waited == [3, 3, 60, 3, 60, 3]  # places; history, which is asked three times


async def test_a_place_that_is_limited_without_an_end_is_left_out_of_a_round(
    missed: Missed,
) -> None:
    missed.say("C0API", FIX)
    missed.say("C0WEB", FIX)
    limited = Fault(status=429, code="ratelimited", retry_after="60")
    missed.api.fail("conversations.history", limited, times=MOST_WAITS + 1)
    await missed.started().round()
    assert len(await missed.stored()) == 1
    await missed.started().round()
    assert len(await missed.stored()) == 2


class HopelessClient(SlackClient):
    """Of a workspace in which we break."""

    @override
    async def identity(self) -> Identity:
        raise KeyError("a bug")


class TwoWorkspaces(OneWorkspace):
    def __init__(self, config: SlackConfig) -> None:
        super().__init__(SlackClient(config))
        self._both = [HopelessClient(config), self._client]

    @override
    async def clients(self) -> Sequence[SlackClient]:
        return self._both

    @override
    async def close(self) -> None:
        for client in self._both:
            await client.close()


async def test_a_workspace_in_which_we_break_holds_up_no_other(missed: Missed) -> None:
    missed.say("C0WEB", FIX)
    await missed.channel.close()
    missed.channel = SlackChannel(
        missed.config,
        front=missed.front,
        workspaces=TwoWorkspaces(missed.config),
        notes=missed.notes,
    )
    await missed.started().round()
    assert len(await missed.stored()) == 1


async def test_a_place_in_which_much_was_said_is_read_to_its_end(missed: Missed) -> None:
    missed.api.page_size = 1
    missed.say("C0WEB", FIX)
    for n in range(120):
        missed.say("C0WEB", f"lunch {n}?")
    await missed.started().round()
    assert [one.text for one in await missed.stored()] == ["fix it"]


async def test_pages_of_fifteen_are_read_to_their_end(missed: Missed) -> None:
    missed.api.page_size = 15
    for number in range(40):
        missed.say("C0WEB", f"<@U0ERRAND> fix {number}")
    await missed.started().round()
    assert [one.text for one in await missed.stored()] == [f"fix {n}" for n in range(40)]


async def test_history_that_leads_in_a_circle_is_given_up_and_read_again(missed: Missed) -> None:
    missed.say("C0WEB", FIX)
    body = '{"ok": true, "messages": [], "response_metadata": {"next_cursor": "2"}}'
    missed.api.fail("conversations.history", Fault(body=body), times=2)
    catching_up, before = missed.started(), dict(missed.notes.kept)
    await catching_up.round()
    assert (await missed.stored(), missed.notes.kept) == ([], before)
    await catching_up.round()
    assert len(await missed.stored()) == 1


async def test_what_was_missed_in_old_threads_while_serve_was_on_is_found_within_the_hour(
    missed: Missed,
) -> None:
    thread = missed.say("C0WEB", "the login is broken")
    catching_up = missed.started()
    await catching_up.round()
    missed.later(minutes=10)
    await catching_up.round()
    asked = missed.say("C0WEB", FIX, thread=thread)
    for _ in range(11):
        missed.later(minutes=5)
        await catching_up.round()
    assert [one.message_id for one in await missed.stored()] == [asked]


async def test_whether_our_credential_is_taken_is_told(missed: Missed) -> None:
    missed.channel._note_socket(connected=True)
    missed.api.fail("users.conversations", Fault(code="token_revoked"))
    catching_up = missed.started()
    await catching_up.round()
    assert missed.channel.connected is False
    await catching_up.round()
    assert missed.channel.connected is True


class BrokenNotes(MemoryNotes):
    """A database that is away."""

    @override
    async def get(self, name: str) -> str | None:
        raise OSError(name)


async def test_a_fault_of_our_own_does_not_end_looking(missed: Missed) -> None:
    catching_up, pauses = missed.started(), list[float]()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 1:
            raise asyncio.CancelledError

    catching_up.notes, catching_up.pause = BrokenNotes(), pause
    with pytest.raises(asyncio.CancelledError):
        await catching_up.run(300)


async def test_a_place_that_fails_is_asked_again_and_holds_up_no_other(missed: Missed) -> None:
    missed.say("C0API", FIX)
    missed.say("C0WEB", FIX)
    missed.api.fail("conversations.history", Fault(status=503))
    await missed.started().round()
    assert len(await missed.stored()) == 1
    missed.later(hours=1)
    await missed.started().round()
    assert {one.conversation.place for one in await missed.stored()} == {"C0API", "C0WEB"}


async def test_a_place_that_is_closed_to_us_is_passed_over(missed: Missed) -> None:
    missed.api.closed["C0API"] = "not_in_channel"
    missed.say("C0API", FIX)
    missed.say("C0WEB", FIX)
    before = dict(missed.notes.kept)
    await missed.started().round()
    assert len(await missed.stored()) == 1
    assert missed.notes.kept != before


@pytest.mark.parametrize(("where", "asked"), [("slack:*", False), ("slack:C0WEB", True)])
async def test_only_where_the_policy_lets_somebody_ask(
    missed: Missed, where: str, *, asked: bool
) -> None:
    rule = {"who": ["*"], "where": [where], "repos": ["*"], "agents": ["*"], "may": ["start"]}
    policy = Policy.model_validate({**missed.office.policy.model_dump(), "rules": [rule]})
    missed.channel._front = HouseFront(store=missed.office.store, in_force=InForce(policy))
    missed.api.places["C0WEB"] = {"id": "C0WEB", "is_ext_shared": True}
    missed.say("C0WEB", FIX)
    await missed.started().round()
    assert [one.shared for one in await missed.stored()] == ([True] if asked else [])


async def test_a_token_without_the_scope_is_no_reason_to_stop_listening(missed: Missed) -> None:
    missed.say("C0WEB", FIX)
    missed.api.fail("users.conversations", Fault(code="missing_scope"))
    await missed.started().round()
    assert await missed.stored() == []
    await missed.started().round()
    assert len(await missed.stored()) == 1
