"""What the agent's pane says of a conversation: best effort, and renewed before Slack lets it lapse."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from integrations.channel import Card, Conversation, Final, Notice, Question, Reply
from integrations.errors import IntegrationError, RejectedError
from integrations.slack.blocks import plain_line
from integrations.slack.client import SlackClient

log = structlog.get_logger()

RENEW_SECONDS = 1500.0
"""Slack takes `processing` for over after an hour."""
REMEMBERED = 5000
TITLE = 200


@dataclass(slots=True)
class Sessions:
    """Only where Slack shows it, which is in direct messages."""

    clock: Callable[[], float] = time.monotonic
    _told: dict[str, tuple[str, float]] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)
    """The workspaces that have no such pane."""

    async def show(self, client: SlackClient, conversation: Conversation, reply: Reply) -> None:
        status, now = status_of(reply), self.clock()
        if status is None or not conversation.place.startswith("D"):
            return
        if conversation.team in self._refused:
            return
        before, at = self._told.get(conversation.key, ("", 0.0))
        renewed = status == "processing" and now - at >= RENEW_SECONDS
        if status == before and not renewed:
            return
        try:
            await client.set_session(
                channel=conversation.place,
                thread=conversation.thread,
                status=status,
                title=plain_line(reply.title, TITLE) if isinstance(reply, Card) else "",
            )
        except RejectedError as error:
            # No agent, or a plan without agents: there is nothing to show it in.
            self._refused.add(conversation.team)
            log.info("slack_sessions_off", error=str(error))
        except IntegrationError as error:
            log.warning("slack_session_not_shown", error=str(error))
        else:
            if len(self._told) >= REMEMBERED:
                self._told.clear()
            self._told[conversation.key] = (status, now)


def status_of(reply: Reply) -> str | None:
    """None for what says nothing of how far the work is."""
    match reply:
        case Card(live=True, waits=False):
            return "processing"
        case Question(chosen="") | Card(live=True):
            return "suspended"
        case Final():
            return "active"
        case Card() | Notice() | Question():
            return None
