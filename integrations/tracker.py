"""The port to a place where tickets live. A channel may be one besides."""

from collections.abc import Sequence
from typing import Protocol

from integrations.channel import Conversation, Inbound, Suggestion


class Tracker(Protocol):
    """Tickets. Errors of every method: `IntegrationError`'s leaves, nothing else."""

    async def suggest(self, inbound: Inbound, repos: Sequence[str]) -> Suggestion | None:
        """Which of these repositories (`owner/name`) the ticket of a request is about, if the service has a guess."""

    async def blockers(self, conversation: Conversation) -> tuple[str, ...]:
        """The open tickets that must be done before the one this conversation is about: `ENG-12`."""

    def item_in(self, text: str) -> str | None:
        """The ticket that a text names (`ENG-12`), if it names one that could be ours. Asks nobody."""
