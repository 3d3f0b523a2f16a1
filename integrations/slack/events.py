"""Slack's event payloads become Inbounds: pure."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from integrations.channel import Conversation, Inbound, Standing
from integrations.errors import MalformedPayloadError
from integrations.invalid import invalid_fields
from integrations.slack.identity import Identity
from integrations.slack.interactions import Note
from integrations.slack.links import permalink
from integrations.slack.mrkdwn import mentions, plain, without_mention
from integrations.slack.payloads import Id, Named, Read, Ts

PLAIN_SUBTYPES = {None, "file_share", "thread_broadcast"}
"""Messages that a person has written; every other subtype is Slack's own account of something."""
BOT_SUBTYPE: Final = "bot_message"
STOP_EMOJI: Final = "octagonal_sign"
LISTENED = frozenset({"app_mention", "message", "reaction_added", "agent_session_stopped"})
"""The events that may become an Inbound."""
NOBODY: frozenset[str] = frozenset()


def _never(_: str) -> bool:
    return False


class _Authorization(Read):
    team_id: Id | None = None


class _Kind(Read):
    type: str
    subtype: str | None = None
    user: str | None = None
    bot_id: str | None = None
    hidden: bool = False


class _Envelope(Read):
    event_id: Id
    team_id: Id
    authorizations: tuple[_Authorization, ...] = ()
    is_ext_shared_channel: bool = False
    event: _Kind

    @property
    def team(self) -> str:
        # In a shared channel `team_id` may be the other side's; the authorization is always ours.
        ours = self.authorizations[0].team_id if self.authorizations else None
        return ours or self.team_id


class _Edited(Read):
    ts: Ts


class _Message(Read):
    type: str = "message"
    channel: Id
    channel_type: str = ""
    user: Id
    text: str = ""
    ts: Ts
    thread_ts: Ts | None = None
    edited: _Edited | None = None
    files: tuple[Named, ...] = ()
    attachments: tuple[dict[str, Any], ...] = ()


class _Previous(Read):
    text: str = ""


class _Item(Read):
    type: str
    channel: Id | None = None
    ts: Ts | None = None


class _Reaction(Read):
    user: Id
    reaction: str
    item: _Item
    event_ts: Ts


class _Stopped(Read):
    channel: Id
    user: Id
    thread_ts: Ts
    event_ts: Ts


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Whose ears these are, and to whom they are open besides people."""

    bot: Identity
    bots: AbstractSet[str] = NOBODY
    """Other bots that are heard, by their ids."""
    is_trigger: Callable[[str], bool] = _never
    """Does a reaction ask for work, by its name as a topic (`slack:emoji:hammer`)?"""


def team_of(payload: Mapping[str, object]) -> str:
    """The workspace of ours that an event is for; empty if it does not say."""
    try:
        return _Envelope.model_validate(payload).team
    except ValidationError:
        return ""


def parse_event(
    payload: Mapping[str, object], *, listener: Listener, received_at: datetime
) -> Inbound | None:
    """What somebody said or did, or None where that could not concern the bot.

    An `app_mention` and the `message` of one post differ in `event_id` only.

    Raises:
        MalformedPayloadError: a message lacks what every message has.
    """
    try:
        envelope = _Envelope.model_validate(payload)
        return _Reading(envelope, _mapping(payload["event"]), listener, received_at).inbound()
    except ValidationError as error:
        fields = invalid_fields(error)
        raise MalformedPayloadError(f"Slack event without a valid {fields}") from None


def parse_gone(payload: Mapping[str, object], *, received_at: datetime) -> Inbound | None:
    """The app was removed from a workspace, or its bot's token revoked; None if only a person's token was.

    Raises:
        MalformedPayloadError: it does not say from which workspace.
    """
    try:
        envelope = _Envelope.model_validate(payload)
    except ValidationError:
        raise MalformedPayloadError("Slack event without a valid workspace") from None
    if envelope.event.type == "tokens_revoked":
        tokens = _mapping(_mapping(payload["event"]).get("tokens"))
        if not tokens.get("bot"):
            return None
    return Inbound(
        event_id=envelope.event_id,
        semantic_key=f"gone:{envelope.event_id}",
        conversation=Conversation(channel="slack", team=envelope.team, place="", thread=""),
        message_id=envelope.team,
        author="slack:an-admin",
        author_name="an admin",
        text="",
        addressed=False,
        received_at=received_at,
        happening="gone",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _At:
    """Which message it is about, and whose doing it is."""

    place: str
    thread: str
    message: str
    user: str


@dataclass(frozen=True, slots=True)
class _Reading:
    envelope: _Envelope
    event: Mapping[str, object]
    listener: Listener
    received_at: datetime

    def inbound(self) -> Inbound | None:
        kind = self.envelope.event
        match kind.type:
            case "reaction_added":
                return self._reaction(_Reaction.model_validate(self.event))
            case "agent_session_stopped":
                return self._stopped(_Stopped.model_validate(self.event))
            case "message" if kind.subtype == "message_changed":
                return self._changed()
            case "app_mention" | "message" if self._speaks(kind):
                return self._said(self._message(self.event))
            case _:
                return None

    def _speaks(self, kind: _Kind) -> bool:
        """Somebody we listen to; never ourselves."""
        bot = self.listener.bot
        if kind.hidden or bot.wrote(user=kind.user or "", bot_id=kind.bot_id or ""):
            return False
        if kind.bot_id or kind.subtype == BOT_SUBTYPE:
            return not self.listener.bots.isdisjoint({kind.user, kind.bot_id})
        return kind.subtype in PLAIN_SUBTYPES and kind.user not in {None, "", "USLACKBOT"}

    def _message(self, raw: object) -> _Message:
        known = {**raw} if isinstance(raw, Mapping) else {}
        known["user"] = known.get("user") or known.get("bot_id")
        return _Message.model_validate(known)

    def _said(self, message: _Message) -> Inbound | None:
        addressed = self._addressed(message)
        if not addressed and message.thread_ts is None:
            return None
        in_thread = message.thread_ts not in {None, message.ts}
        more = bool(message.files or message.attachments) or (addressed and in_thread)
        return self._inbound(
            self._at(message),
            told_apart="",
            text=self._plain(message.text),
            addressed=addressed,
            note=Note.THREAD if more else "",
            standing="bot" if self.envelope.event.bot_id else "unknown",
        )

    def _changed(self) -> Inbound | None:
        """An edit by a person: of a request it is a correction, and one that mentions us now is a request."""
        kind = _Kind.model_validate({"type": "message", **_mapping(self.event.get("message"))})
        if kind.subtype not in PLAIN_SUBTYPES or not self._speaks(kind):
            return None
        around = {name: self.event.get(name) for name in ("channel", "channel_type")}
        message = self._message({**_mapping(self.event.get("message")), **around})
        before = _Previous.model_validate(self.event.get("previous_message") or {})
        if message.edited is None or message.text == before.text:
            return None
        bot = self.listener.bot.user_id
        if mentions(message.text, bot) and not mentions(before.text, bot):
            return self._said(message)
        if not self._addressed(message) and message.thread_ts is None:
            return None
        return self._inbound(
            self._at(message),
            told_apart=f":edit:{message.edited.ts}",
            text=self._plain(message.text),
            addressed=self._addressed(message),
        ).model_copy(update={"happening": "corrected", "corrects": self._key(message)})

    def _reaction(self, reaction: _Reaction) -> Inbound | None:
        item, name = reaction.item, reaction.reaction
        if item.channel is None or item.ts is None or reaction.user == self.listener.bot.user_id:
            return None
        stops, topic = name == STOP_EMOJI, f"slack:emoji:{name}"
        if not stops and not self.listener.is_trigger(topic):
            return None
        again = f":{reaction.user}:{reaction.event_ts}" if stops else ""
        made = self._inbound(
            _At(place=item.channel, thread=item.ts, message=item.ts, user=reaction.user),
            told_apart=f":reaction:{name}{again}",
            text="stop" if stops else "",
            addressed=not stops,
            note=Note.REACTION,
        )
        if stops:
            return made.model_copy(update={"pressed": True})
        return made.model_copy(update={"happening": "triggered", "topics": (topic,)})

    def _stopped(self, stopped: _Stopped) -> Inbound:
        """The agent pane's own stop button."""
        thread = stopped.thread_ts
        return self._inbound(
            _At(place=stopped.channel, thread=thread, message=thread, user=stopped.user),
            told_apart=f":stopped:{stopped.event_ts}",
            text="stop",
            addressed=True,
        ).model_copy(update={"pressed": True})

    def _inbound(
        self,
        at: _At,
        *,
        told_apart: str,
        text: str,
        addressed: bool,
        note: str = "",
        standing: Standing = "unknown",
    ) -> Inbound:
        team = self.envelope.team
        return Inbound(
            event_id=self.envelope.event_id,
            semantic_key=f"{team}:{at.place}:{at.message}{told_apart}",
            conversation=Conversation(channel="slack", team=team, place=at.place, thread=at.thread),
            message_id=at.message,
            author=f"slack:{at.user}",
            author_name=at.user,
            text=text,
            addressed=addressed,
            link=permalink(self.listener.bot, place=at.place, ts=at.message, thread=at.thread),
            received_at=self.received_at,
            shared=self.envelope.is_ext_shared_channel,
            standing=standing,
            partial=True,
            note=note,
        )

    def _key(self, message: _Message) -> str:
        return f"{self.envelope.team}:{message.channel}:{message.ts}"

    def _at(self, message: _Message) -> _At:
        thread = message.thread_ts or message.ts
        return _At(place=message.channel, thread=thread, message=message.ts, user=message.user)

    def _addressed(self, message: _Message) -> bool:
        said_to_it = message.type == "app_mention" or message.channel_type == "im"
        return said_to_it or mentions(message.text, self.listener.bot.user_id)

    def _plain(self, text: str) -> str:
        return plain(without_mention(text, self.listener.bot.user_id)).strip()


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
