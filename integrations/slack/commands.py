"""The slash command: words about one's own errands are answered to who typed them; anything else is a request."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from integrations.channel import Receive
from integrations.front import Errand, Front
from integrations.slack.blocks import Block, section
from integrations.slack.client import SlackClient
from integrations.slack.interactions import Origin, commanded, told
from integrations.slack.mrkdwn import written, written_line
from integrations.slack.payloads import Command
from integrations.slack.views import errand_blocks, settings_form

LISTED = 10
TITLE = 200
MANUAL = 2900
USAGE = (
    "`/errand owner/name what to do` starts work here. `/errand list` shows yours, `/errand status` how far they are, "
    "`/errand stop` and `/errand retry` do that to the newest, `/errand settings` sets what this channel stands for."
)
NOTHING = "Nothing of yours is under way."


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    front: Front
    receive: Receive

    async def answer(self, client: SlackClient, command: Command) -> dict[str, Any]:
        """The body of the answer, which only who typed it sees; empty where a thread begins."""
        match command.text.strip().strip(".!").lower():
            case "" | "help" | "?":
                return whisper([written(self.front.manual, MANUAL), USAGE])
            case "list" | "status" as word:
                return await self._list(command, live_only=word == "status")
            case "stop" | "cancel":
                return await self._stop(command)
            case "retry":
                return await self._retry(command)
            case "settings":
                return await self._settings(client, command)
            case _:
                await self.receive(commanded(command, received_at=datetime.now(UTC)))
                return {}

    async def _mine(self, command: Command) -> Sequence[Errand]:
        return await self.front.errands(f"slack:{command.user_id}", limit=LISTED)

    async def _list(self, command: Command, *, live_only: bool) -> dict[str, Any]:
        mine = [e for e in await self._mine(command) if e.live or not live_only]
        empty = NOTHING if live_only else "You have asked for nothing yet."
        return whisper([empty], errand_blocks(mine, empty=empty))

    async def _stop(self, command: Command) -> dict[str, Any]:
        live = [errand for errand in await self._mine(command) if errand.live]
        if not live:
            return whisper([NOTHING])
        if len(live) > 1:
            return whisper(["Which one?"], [section("Which one?"), *errand_blocks(live, empty="")])
        await self._say_there(command, live[0], "stop")
        return whisper([f"Asked to stop: {written_line(live[0].title, TITLE)}"])

    async def _retry(self, command: Command) -> dict[str, Any]:
        ended = [errand for errand in await self._mine(command) if not errand.live]
        if not ended:
            return whisper(["You have nothing to run again."])
        await self._say_there(command, ended[0], "retry")
        return whisper([f"Asked to run again: {written_line(ended[0].title, TITLE)}"])

    async def _say_there(self, command: Command, errand: Errand, word: str) -> None:
        inbound = told(
            Origin(team=command.team_id),
            user=command.user_id,
            text=word,
            key=f"{command.team_id}:command:{command.trigger_id}",
            received_at=datetime.now(UTC),
        )
        changes = {
            "conversation": errand.conversation,
            "message_id": errand.conversation.thread,
            "note": "",
        }
        await self.receive(inbound.model_copy(update=changes))

    async def _settings(self, client: SlackClient, command: Command) -> dict[str, Any]:
        person, place = f"slack:{command.user_id}", f"slack:{command.channel_id}"
        offer = await self.front.offer(person, place)
        if not offer.may_set:
            return whisper(["The policy lets you set nothing here (permission `settings`)."])
        origin = Origin(team=command.team_id, place=command.channel_id)
        await client.open_view(command.trigger_id, settings_form(offer, origin=origin))
        return {}


def whisper(lines: Sequence[str], blocks: Sequence[Block] | None = None) -> dict[str, Any]:
    """An answer that nobody else sees."""
    shown = list(blocks) if blocks is not None else [section(line) for line in lines]
    return {"response_type": "ephemeral", "text": "\n".join(lines), "blocks": shown}
