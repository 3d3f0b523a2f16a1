"""What a channel may ask of the house, to show it to people: the port, and its neutral words.

Only reads. Whatever is to happen is said, as an `Inbound` like any other, and decided there.
"""

from typing import Protocol

from pydantic import BaseModel, ConfigDict

from integrations.channel import Conversation, FileChange, Step


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Errand(_Value):
    """A task, in a line."""

    conversation: Conversation
    title: str
    repo: str
    state: str
    """A word for people, as on the card."""
    live: bool
    link: str = ""
    """To where it was asked for."""
    pull_url: str = ""
    seconds: int | None = None
    """How long the newest run has been under way, or took."""
    cost_usd: float | None = None


class Question(_Value):
    """What waits for somebody's answer."""

    conversation: Conversation
    text: str


class Details(_Value):
    """A task, as far as one wants to know it beside its card."""

    errand: Errand
    asked_by: str
    agent: str = ""
    branch: str = ""
    reason: str = ""
    steps: tuple[Step, ...] = ()
    allowed: tuple[str, ...] = ()
    """Hosts that the run may reach."""
    denied: tuple[str, ...] = ()
    """Hosts that it was refused."""
    said: str = ""
    """The agent's last words."""
    changes: str = ""
    """How much it changed, in words; empty if nothing is published."""
    files: int = 0
    changed: tuple[FileChange, ...] = ()
    """Those of the changed files that are named."""
    tokens: int | None = None
    runs: int = 0
    url: str = ""
    """The task's page."""


class Offer(_Value):
    """What somebody may ask for in a place."""

    repos: tuple[str, ...] = ()
    """Those that they used last come first."""
    agents: tuple[str, ...] = ()
    default: str = ""
    """The repository that is meant where none is named."""
    may_set: bool = False
    """May change what the place stands for."""


class House(_Value):
    """Who runs this, and what it can reach."""

    operators: tuple[str, ...] = ()
    """As a policy names people."""
    reaches: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Each repository open to whoever asks, with the hosts that work on it may reach."""


class Front(Protocol):
    """Errors of every method: the store's, which pass through a channel as they are."""

    @property
    def manual(self) -> str:
        """How to use it, in a few lines."""

    async def errands(self, person: str, *, limit: int) -> tuple[Errand, ...]:
        """What somebody asked for, the newest first."""

    async def questions(self, person: str) -> tuple[Question, ...]:
        """What waits for their answer."""

    async def details(self, conversation: Conversation) -> Details | None:
        """The newest task of a conversation."""

    async def offer(self, person: str, where: str) -> Offer:
        """What they may ask for in a place (`slack:C0WEB`)."""

    async def house(self, person: str) -> House: ...

    async def live(self, channel: str) -> tuple[Conversation, ...]:
        """Of a channel, the conversations with work that has not ended."""

    def is_open(self, where: str, *, shared: bool) -> bool:
        """Does the policy let anybody do anything in a place? `shared`: people of elsewhere read along."""

    def is_trigger(self, topic: str) -> bool:
        """Is it a request when somebody sets this (`slack:emoji:hammer`)?"""
