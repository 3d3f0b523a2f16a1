"""What comes from Slack, each kind with what is done and answered at once.

What is to happen is received (stored, and only then acknowledged). What is only to be shown is shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from integrations.channel import Receive
from integrations.errors import IntegrationError, RejectedError
from integrations.front import Front
from integrations.slack import names
from integrations.slack.blocks import Block
from integrations.slack.commands import Commands
from integrations.slack.config import SlackConfig
from integrations.slack.events import LISTENED, Listener, parse_event, parse_gone, team_of
from integrations.slack.interactions import Origin, pressed, stopped_there, submitted, where_of
from integrations.slack.mrkdwn import plain, without_mention
from integrations.slack.panes import Panes
from integrations.slack.payloads import (
    Action,
    Click,
    Command,
    GlobalShortcut,
    MessageShortcut,
    Submission,
    Suggestion,
    read,
)
from integrations.slack.views import details_view, no_details_view, start_form, suggestions
from integrations.slack.workspaces import NOT_INSTALLED, Workspaces

log = structlog.get_logger()

GONE = frozenset({"app_uninstalled", "tokens_revoked"})
Payload = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Answers with the body of the acknowledgement; empty mostly."""

    config: SlackConfig
    workspaces: Workspaces
    front: Front
    receive: Receive
    panes: Panes = field(default_factory=Panes)

    async def take(self, body: Payload) -> dict[str, Any]:
        try:
            return await self._taken(body)
        except RejectedError as error:
            if error.code != NOT_INSTALLED:
                raise
            # It will not get better by itself, and is nobody's who could be told.
            log.warning("slack_workspace_unknown", kind=body.get("type"))
            return {}

    async def _taken(self, body: Payload) -> dict[str, Any]:
        match body.get("type"):
            case "event_callback":
                await self._event(body)
            case "block_actions":
                await self._click(read(Click, body))
            case "message_action":
                await self._hand_over(read(MessageShortcut, body))
            case "shortcut":
                await self._new(read(GlobalShortcut, body))
            case "view_submission":
                return await self._submission(read(Submission, body))
            case "block_suggestion":
                return await self._suggestion(read(Suggestion, body))
            case None if body.get("command"):
                return await self._command(read(Command, body))
            case kind:
                log.info("slack_delivery_ignored", kind=kind)
        return {}

    async def _event(self, body: Payload) -> None:
        event = body.get("event")
        kind = event.get("type") if isinstance(event, Mapping) else None
        team = team_of(body)
        if kind in GONE:
            await self._gone(body, team)
        elif kind in LISTENED:
            await self._heard(body, team)
        elif kind in {"app_home_opened", "app_context_changed"}:
            client = await self.workspaces.client(team)
            await self.panes.opened(client, self.front, body)
        else:
            log.info("slack_delivery_ignored", kind="event_callback", event_type=kind)

    async def _gone(self, body: Payload, team: str) -> None:
        """First what runs for them is stopped, which is delivered again where it could not be stored."""
        inbound = parse_gone(body, received_at=datetime.now(UTC))
        if inbound is not None:
            await self.receive(inbound)
            await self.workspaces.forget(team)

    async def _heard(self, body: Payload, team: str) -> None:
        client = await self.workspaces.client(team)
        listener = Listener(
            bot=await client.identity(),
            bots=frozenset(self.config.bots),
            is_trigger=self.front.is_trigger,
        )
        inbound = parse_event(body, listener=listener, received_at=datetime.now(UTC))
        if inbound is not None:
            await self.receive(self.panes.seen_from(inbound))

    async def _click(self, click: Click) -> None:
        for action in click.actions:
            await self._act(click, action)

    async def _act(self, click: Click, action: Action) -> None:
        team, name, now = click.team_id, action.action_id, datetime.now(UTC)
        where = where_of(click, team=team)
        if name == names.STOP_THERE:
            await self.receive(stopped_there(click, action, team=team, received_at=now))
        elif name == names.NEW and click.trigger_id:
            await self._form(team, click.user.id, click.trigger_id)
        elif name == names.DETAILS and click.trigger_id and where is not None:
            found = await self.front.details(where.conversation)
            view = no_details_view() if found is None else details_view(found)
            await self._show(team, click.trigger_id, view)
        elif where is not None and name.startswith((names.SAY, names.CHOOSE, names.RATE)):
            await self.receive(pressed(click, action, where, received_at=now))

    async def _hand_over(self, shortcut: MessageShortcut) -> None:
        """A form at once: the trigger is good for three seconds."""
        message, place = shortcut.message, shortcut.channel.id
        origin = Origin(
            team=shortcut.team_id,
            place=place,
            thread=message.thread_ts or message.ts,
            message=message.ts,
        )
        offer = await self.front.offer(f"slack:{shortcut.user.id}", f"slack:{place}")
        client = await self.workspaces.client(shortcut.team_id)
        bot = await client.identity()
        text = plain(without_mention(message.text, bot.user_id)).strip()
        view = start_form(offer, origin=origin, text=text)
        await client.open_view(shortcut.trigger_id, view)

    async def _new(self, shortcut: GlobalShortcut) -> None:
        await self._form(shortcut.team_id, shortcut.user.id, shortcut.trigger_id)

    async def _form(self, team: str, user: str, trigger: str) -> None:
        offer = await self.front.offer(f"slack:{user}", "slack:*")
        await self._show(team, trigger, start_form(offer, origin=Origin(team=team), anywhere=True))

    async def _show(self, team: str, trigger: str, view: Block) -> None:
        client = await self.workspaces.client(team)
        await client.open_view(trigger, view)

    async def _submission(self, form: Submission) -> dict[str, Any]:
        if form.view.callback_id not in {names.START_FORM, names.SETTINGS_FORM}:
            return {}
        inbound = submitted(form, received_at=datetime.now(UTC))
        if form.view.callback_id == names.START_FORM and not form.view.state.text(names.REQUEST):
            errors = {names.REQUEST: "Say what should be done."}
            return {"response_action": "errors", "errors": errors}
        await self.receive(inbound)
        return {}

    async def _suggestion(self, asked: Suggestion) -> dict[str, Any]:
        offer = await self.front.offer(f"slack:{asked.user.id}", "slack:*")
        return {"options": suggestions(offer, asked.value)}

    async def _command(self, command: Command) -> dict[str, Any]:
        commands = Commands(front=self.front, receive=self.receive)
        client = await self.workspaces.client(command.team_id)
        try:
            return await commands.answer(client, command)
        except IntegrationError as error:
            log.warning("slack_command_failed", error=str(error))
            return {"response_type": "ephemeral", "text": "Slack did not let me do that just now."}
