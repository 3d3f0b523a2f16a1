"""Slack's event payloads become Inbounds: pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from integrations.channel import Conversation, Inbound
from integrations.errors import MalformedPayloadError
from integrations.slack.identity import Identity
from integrations.slack.mrkdwn import mentions, plain, without_mention

PLAIN_SUBTYPES = {None, "file_share", "thread_broadcast"}
"""Messages that a person has written; every other subtype is Slack's own account of something."""

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Ts = Annotated[str, Field(pattern=r"^[0-9]{1,16}\.[0-9]{1,16}$")]


class _Read(BaseModel):
    """Only what is read: Slack adds fields without notice."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Authorization(_Read):
    team_id: Id | None = None


class _Kind(_Read):
    type: str
    subtype: str | None = None
    user: str | None = None
    bot_id: str | None = None
    hidden: bool = False


class _Envelope(_Read):
    event_id: Id
    team_id: Id
    authorizations: tuple[_Authorization, ...] = ()
    event: _Kind

    @property
    def team(self) -> str:
        # In a shared channel `team_id` may be the other side's; the authorization is always ours.
        ours = self.authorizations[0].team_id if self.authorizations else None
        return ours or self.team_id


class _Message(_Read):
    type: str
    channel: Id
    channel_type: str = ""
    user: Id
    text: str = ""
    ts: Ts
    thread_ts: Ts | None = None


def parse_event(
    payload: Mapping[str, object], *, bot: Identity, received_at: datetime
) -> Inbound | None:
    """What somebody said, or None where nobody said anything that could concern the bot.

    An `app_mention` and the `message` of one post differ in `event_id` only.

    Raises:
        MalformedPayloadError: a message lacks what every message has.
    """
    try:
        envelope = _Envelope.model_validate(payload)
        if not _from_a_person(envelope.event, bot):
            return None
        message = _Message.model_validate(payload["event"])
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
        raise MalformedPayloadError(f"Slack event without a valid {fields}") from None
    if not _concerns(message, bot):
        return None
    return _inbound(envelope, message, bot=bot, received_at=received_at)


def _from_a_person(event: _Kind, bot: Identity) -> bool:
    if event.type not in {"app_mention", "message"} or event.subtype not in PLAIN_SUBTYPES:
        return False
    if event.bot_id or event.hidden:
        return False
    return event.user not in {None, "", bot.user_id, "USLACKBOT"}


def _addressed(message: _Message, bot: Identity) -> bool:
    said_to_it = message.type == "app_mention" or message.channel_type == "im"
    return said_to_it or mentions(message.text, bot.user_id)


def _concerns(message: _Message, bot: Identity) -> bool:
    return message.thread_ts is not None or _addressed(message, bot)


def _inbound(
    envelope: _Envelope, message: _Message, *, bot: Identity, received_at: datetime
) -> Inbound:
    return Inbound(
        event_id=envelope.event_id,
        semantic_key=f"{envelope.team}:{message.channel}:{message.ts}",
        conversation=Conversation(
            channel="slack",
            team=envelope.team,
            place=message.channel,
            thread=message.thread_ts or message.ts,
        ),
        message_id=message.ts,
        author=f"slack:{message.user}",
        author_name=message.user,
        text=plain(without_mention(message.text, bot.user_id)).strip(),
        addressed=_addressed(message, bot),
        link=_permalink(message, bot),
        received_at=received_at,
    )


def _permalink(message: _Message, bot: Identity) -> str:
    if not bot.url:
        return ""
    link = f"{bot.url}archives/{message.channel}/p{message.ts.replace('.', '')}"
    if message.thread_ts is None or message.thread_ts == message.ts:
        return link
    return f"{link}?thread_ts={message.thread_ts}&cid={message.channel}"
