"""Clicks, forms and commands become Inbounds: pure.

A button says words, as if they had been written in its thread.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from integrations.channel import Conversation, Inbound
from integrations.errors import MalformedPayloadError
from integrations.slack import names
from integrations.slack.mrkdwn import plain
from integrations.slack.payloads import Action, Click, Command, Id, Read, Submission, Ts

KEY_LENGTH = 16


class Note(StrEnum):
    """What a stored delivery still lacks, for `completing`."""

    ROOT = "root"
    """A message of its own: one is posted, and answered in its thread."""
    THREAD = "thread"
    """What is around it: it was said in a thread, or has something attached."""
    ALONE = "alone"
    """The same for a shortcut: the message that it was called on is background too."""
    REACTION = "reaction"
    """The message that it is on."""


class Origin(Read):
    """Where a form was opened from; it travels in the form itself."""

    team: Id
    place: Id | None = None
    thread: Ts | None = None
    message: Ts | None = None

    def dumped(self) -> str:
        return self.model_dump_json(exclude_none=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The conversation of a click, and the message with the button."""

    team: str
    place: str
    thread: str
    message: str

    @property
    def conversation(self) -> Conversation:
        return Conversation(channel="slack", team=self.team, place=self.place, thread=self.thread)


def where_of(click: Click, *, team: str) -> Where | None:
    """None for a click outside of conversations, in App Home say."""
    place = click.container.channel_id or (click.channel.id if click.channel else None)
    message = click.container.message_ts or (click.message.ts if click.message else None)
    if place is None or message is None:
        return None
    in_message = click.message.thread_ts if click.message else None
    thread = click.container.thread_ts or in_message or message
    return Where(team=team, place=place, thread=thread, message=message)


def pressed(click: Click, action: Action, where: Where, *, received_at: datetime) -> Inbound:
    """What a button says. Where that means nothing a second time, a second click is the same utterance."""
    once = action.action_id.startswith(names.SAY_ONCE) or action.action_id == names.CHOOSE
    told_apart = _hash(action.said) if once else action.action_ts
    rated = action.action_id.startswith(names.RATE)
    key = f"{where.team}:{where.place}:{where.message}:press:{click.user.id}:{told_apart}"
    return Inbound(
        event_id=f"{key}:{action.action_ts}",
        semantic_key=key,
        conversation=where.conversation,
        message_id=where.message,
        author=f"slack:{click.user.id}",
        author_name=click.user.id,
        text=action.said,
        addressed=True,
        pressed=True,
        happening="rated" if rated else "said",
        received_at=received_at,
        partial=True,
        standing="unknown",
    )


def stopped_there(click: Click, action: Action, *, team: str, received_at: datetime) -> Inbound:
    """`stop`, said in the conversation that the button's value names."""
    place, _, thread = action.said.partition(":")
    try:
        there = Origin(team=team, place=place, thread=thread)
    except ValidationError:
        raise MalformedPayloadError("Slack payload with a value that is none of ours") from None
    return told(
        there,
        user=click.user.id,
        text="stop",
        key=f"{team}:{place}:{thread}:stop:{click.user.id}:{action.action_ts}",
        received_at=received_at,
    ).model_copy(update={"note": ""})


def submitted(form: Submission, *, received_at: datetime) -> Inbound:
    """A new errand, or new defaults of a place, out of a form."""
    origin = origin_of(form.view.private_metadata)
    state = form.view.state
    options = [
        f"{name}={value}"
        for name in (names.REPO, names.AGENT)
        if (value := state.text(name)) and value != names.NONE
    ]
    if form.view.callback_id == names.SETTINGS_FORM:
        text = " ".join(["settings", *(options or ["repo=none"])])
    else:
        text = "\n".join([" ".join(options), state.text(names.REQUEST)]).strip()
        chosen = state.text(names.PLACE)
        origin = origin.model_copy(update={"place": origin.place or chosen or None})
    return told(
        origin,
        user=form.user.id,
        text=text,
        key=f"{origin.team}:view:{form.view.id}",
        received_at=received_at,
    )


def commanded(command: Command, *, received_at: datetime) -> Inbound:
    """What was asked for by slash command: the message for it is yet to be posted."""
    return told(
        Origin(team=command.team_id, place=command.channel_id),
        user=command.user_id,
        text=plain(command.text).strip(),
        key=f"{command.team_id}:command:{_hash(command.trigger_id)}",
        received_at=received_at,
    )


def told(origin: Origin, *, user: str, text: str, key: str, received_at: datetime) -> Inbound:
    """Words without a message of their own, in a conversation that is there or yet to be begun."""
    thread = origin.thread or ""
    return Inbound(
        event_id=key,
        semantic_key=key,
        conversation=Conversation(
            channel="slack", team=origin.team, place=origin.place or user, thread=thread
        ),
        message_id=origin.message or thread,
        author=f"slack:{user}",
        author_name=user,
        text=text,
        addressed=True,
        received_at=received_at,
        partial=True,
        standing="unknown",
        note=Note.ALONE if thread else Note.ROOT,
    )


def origin_of(metadata: str) -> Origin:
    try:
        raw: Any = json.loads(metadata)
        return Origin.model_validate(raw)
    except ValueError:  # pydantic's is one too
        raise MalformedPayloadError("Slack form without the place it belongs to") from None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
