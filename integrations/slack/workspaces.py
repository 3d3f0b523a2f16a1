"""The workspaces that we serve, each with a client of its own."""

from collections.abc import Sequence
from typing import Protocol

from integrations.slack.client import SlackClient


class Workspaces(Protocol):
    """Errors: `IntegrationError`'s leaves, and the store's."""

    async def client(self, team: str) -> SlackClient:
        """`RejectedError` for a workspace that we are not installed in."""

    async def clients(self) -> Sequence[SlackClient]: ...

    async def forget(self, team: str) -> None:
        """The app was removed from it."""

    async def close(self) -> None: ...


class OneWorkspace:
    """That of the token in the settings, whatever a delivery calls it."""

    def __init__(self, client: SlackClient) -> None:
        self._client = client

    async def client(self, team: str) -> SlackClient:
        return self._client

    async def clients(self) -> Sequence[SlackClient]:
        return [self._client]

    async def forget(self, team: str) -> None:
        """Its token is in the settings: `check` says that it is no longer accepted."""

    async def close(self) -> None:
        await self._client.close()
