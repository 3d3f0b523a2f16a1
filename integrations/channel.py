"""The port to a place where people talk, and the neutral words it speaks."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Protocol

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Conversation(_Value):
    """Where a request came from and where its answers go."""

    channel: str
    """Name of the channel: slack, console."""
    team: str = ""
    """Workspace, where the channel has several."""
    place: str
    """Channel or room id."""
    thread: str
    """Id of the conversation inside the place: Slack's root ts."""

    @property
    def key(self) -> str:
        return f"{self.channel}:{self.team}:{self.place}:{self.thread}"

    @property
    def where(self) -> str:
        """The place as a policy names it."""
        return f"{self.channel}:{self.place}"


class Inbound(_Value):
    """One thing somebody said, in neutral words."""

    event_id: str
    """The vendor's id of the delivery; (channel, event_id) is stored once."""
    semantic_key: str
    """Same for every delivery of the same utterance, across event types."""
    conversation: Conversation
    message_id: str
    """Id of the message, for reactions."""
    author: str
    """As a policy names people: `slack:U0DANA`."""
    author_name: str
    text: str
    """Plain text; the mention of the bot is removed."""
    addressed: bool
    """Said to the bot (a mention, a direct message). Else it counts only in a thread that has a task."""
    link: str = ""
    """Permalink to the message, if the vendor gives one."""
    received_at: datetime


class StepState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Step(_Value):
    title: str
    state: StepState


class Card(_Value):
    """The one message of a run that is edited in place."""

    kind: Literal["card"] = "card"
    task: str
    title: str
    repo: str
    repo_reason: str
    agent: str
    state: str
    """A word for people: queued, starting, working, publishing, done, failed, stopped."""
    live: bool
    """False once the run has ended: no Stop button."""
    steps: tuple[Step, ...] = ()
    doing: str = ""
    elapsed_seconds: int | None = None
    cost_usd: float | None = None


class Notice(_Value):
    """One or a few sentences."""

    kind: Literal["notice"] = "notice"
    text: str
    error: bool = False


class Question(_Value):
    """A choice put to the requester; answered by words."""

    kind: Literal["question"] = "question"
    text: str
    options: tuple[str, ...]


class Check(_Value):
    command: str
    passed: bool


class Final(_Value):
    """How a run ended: exactly one per round of a task."""

    kind: Literal["final"] = "final"
    outcome: Literal["succeeded", "unchanged", "failed", "stopped"]
    text: str
    """What changed, or why it failed."""
    tail: str = ""
    """Last lines of output of what failed; untrusted."""
    pull_url: str = ""
    pull_label: str = ""
    files: int = 0
    added: int = 0
    removed: int = 0
    checks: tuple[Check, ...] = ()
    elapsed_seconds: int = 0
    cost_usd: float | None = None
    asked_by: str = ""


Reply = Annotated[Card | Notice | Question | Final, Field(discriminator="kind")]


class Mark(StrEnum):
    """A reaction on the person's message: 👀 🏁 ❌ 🛑."""

    SEEN = "seen"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


Receive = Callable[[Inbound], Awaitable[bool]]
"""Store an Inbound and return after COMMIT: True if new, False if already known. Raises if it could not be stored."""


class Channel(Protocol):
    """A place where people talk. Errors of every method: `IntegrationError`'s leaves, nothing else."""

    @property
    def name(self) -> str:
        """The word before the colon in conversations and people."""

    @property
    def edit_seconds(self) -> float:
        """How long a message stands before it is edited again: what readers and rate limits bear."""

    async def post(self, conversation: Conversation, reply: Reply, *, key: str) -> str:
        """Post a reply and return the message's id.

        Not safe twice: after an unknown outcome (`UnavailableError`) call `find` with the same key first.
        """

    async def edit(self, conversation: Conversation, message_id: str, reply: Reply) -> None:
        """Replace a message. Safe twice. `RejectedError` if the message is gone."""

    async def mark(
        self, conversation: Conversation, message_id: str, mark: Mark, *, present: bool
    ) -> None:
        """Add or remove a reaction. Safe twice."""

    async def find(self, conversation: Conversation, *, key: str, since: datetime) -> str | None:
        """The id of the message that `post` made with this key at or after `since`, if any."""

    async def name_of(self, person: str) -> str:
        """The name by which people know somebody (`slack:U0DANA`)."""

    def routes(self, receive: Receive) -> APIRouter | None:
        """HTTP routes for deliveries, or None. They answer 2xx only after `receive` returned."""

    async def listen(self, receive: Receive) -> None:
        """Receive without an inbound port, until cancelled. Returns at once where there is nothing to do."""

    async def check(self) -> list[str]:
        """Problems that `errand doctor` should name, each with what to do; empty if all is well."""

    async def close(self) -> None:
        """Release connections. Safe twice."""
