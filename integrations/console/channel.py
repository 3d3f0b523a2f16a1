"""A terminal as a place where people talk: one person, one conversation at a time."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fastapi import APIRouter
from rich.console import Console
from rich.text import Text
from ulid import ULID

from integrations.channel import Conversation, Final, Inbound, Mark, Opening, Receive, Reply
from integrations.console.render import changes, lines
from integrations.errors import RejectedError

PLACE = "terminal"
NEW = "/new"
MARKS = {Mark.SEEN: "👀", Mark.DONE: "🏁", Mark.FAILED: "❌", Mark.STOPPED: "🛑"}
STYLES = {"✓": "green", "✗": "red", "▸": "cyan", "●": "bold", "⚠": "yellow", "│": "dim"}


@dataclass(slots=True, kw_only=True)
class _Printed:
    conversation: Conversation
    key: str
    at: datetime
    reply: Reply


@dataclass(slots=True, kw_only=True)
class ConsoleChannel:
    """Prints replies to `out`; `lines`, where given, are what the person types.

    Lines go on in the conversation that the first of them or `say` started; `/new` starts another.
    """

    out: Console
    user: str
    lines: AsyncIterator[str] | None = None
    name: str = "console"
    edit_seconds: float = 0.1
    silence_seconds: float = 60.0
    connected: None = None
    _printed: dict[str, _Printed] = field(default_factory=dict)
    _marks: set[tuple[str, Mark]] = field(default_factory=set)
    _finals: dict[str, Final] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _current: Conversation | None = None

    async def complete(self, inbound: Inbound) -> Inbound:
        return inbound

    async def open(self, where: Conversation, opening: Opening, *, key: str) -> Conversation:
        raise RejectedError(self.name, "a terminal has one conversation at a time")

    async def post(self, conversation: Conversation, reply: Reply, *, key: str) -> str:
        message_id = str(len(self._printed) + 1)
        self._printed[message_id] = _Printed(
            conversation=conversation, key=key, at=datetime.now(UTC), reply=reply
        )
        self._print(lines(reply), space=True)
        self._note(conversation, reply)
        return message_id

    async def edit(self, conversation: Conversation, message_id: str, reply: Reply) -> None:
        printed = self._printed.get(message_id)
        if printed is None or printed.conversation != conversation:
            raise RejectedError(self.name, "message_not_found")
        self._print(changes(printed.reply, reply))
        printed.reply = reply
        self._note(conversation, reply)

    async def mark(
        self, conversation: Conversation, message_id: str, mark: Mark, *, present: bool
    ) -> None:
        if not present:
            self._marks.discard((message_id, mark))
        elif (message_id, mark) not in self._marks:
            self._marks.add((message_id, mark))
            self._print([MARKS[mark]])

    async def find(self, conversation: Conversation, *, key: str, since: datetime) -> str | None:
        for message_id, printed in self._printed.items():
            if (printed.conversation, printed.key) == (conversation, key) and printed.at >= since:
                return message_id
        return None

    async def name_of(self, person: str) -> str:
        return person.removeprefix(f"{self.name}:")

    def routes(self, receive: Receive) -> APIRouter | None:
        return None

    async def listen(self, receive: Receive) -> None:
        """Hand in what is typed, until the lines end."""
        if self.lines is None:
            return
        async for line in self.lines:
            text = line.strip()
            if text == NEW or text.startswith(f"{NEW} "):
                self._current, text = None, text.removeprefix(NEW).strip()
            if text:
                await self._say(text, receive)

    async def say(self, text: str, receive: Receive) -> Conversation:
        """Start a conversation with this text; it is stored when this returns."""
        self._current = None
        return await self._say(text, receive)

    async def ended(self, conversation: Conversation) -> Final:
        """Wait for the word that ends this conversation's errand."""
        while (final := self._finals.get(conversation.key)) is None:
            self._changed.clear()
            await self._changed.wait()
        return final

    async def check(self) -> list[str]:
        return []

    async def close(self) -> None:
        return None

    async def _say(self, text: str, receive: Receive) -> Conversation:
        message_id = str(ULID())
        conversation = self._current = self._current or Conversation(
            channel=self.name, place=PLACE, thread=message_id
        )
        await receive(
            Inbound(
                event_id=message_id,
                semantic_key=message_id,
                conversation=conversation,
                message_id=message_id,
                author=f"{self.name}:{self.user}",
                author_name=self.user,
                text=text,
                addressed=True,
                received_at=datetime.now(UTC),
            )
        )
        return conversation

    def _note(self, conversation: Conversation, reply: Reply) -> None:
        if isinstance(reply, Final):
            self._finals[conversation.key] = reply
            self._changed.set()

    def _print(self, texts: list[str], *, space: bool = False) -> None:
        if texts and space:
            self.out.print()
        for text in texts:
            # A Text is never read as markup.
            style = STYLES.get(text.strip()[:1], "")
            self.out.print(Text(text, style=style), soft_wrap=False, highlight=False)
