"""From a verified delivery to an Inbound that is stored."""

from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from integrations.channel import Receive
from integrations.linear.events import Arrival, gone, parse_event, read_envelope
from integrations.linear.payloads import Envelope
from integrations.linear.sessions import Sessions
from integrations.linear.workspaces import Workspaces

log = structlog.get_logger()


class Deliveries:
    """What is no request is told to the log, and is fine."""

    def __init__(
        self,
        workspaces: Workspaces,
        sessions: Sessions,
        receive: Receive,
        *,
        teams_changed: Callable[[], None],
    ) -> None:
        self._workspaces = workspaces
        self._sessions = sessions
        self._receive = receive
        self._teams_changed = teams_changed

    async def take(self, payload: Mapping[str, object], *, delivery_id: str, at: datetime) -> None:
        """Return once it is stored, or known to be none of ours.

        Raises:
            MalformedPayloadError: it lacks what its type promises.
        """
        envelope = read_envelope(payload)
        workspace = await self._workspaces.find(envelope.organization_id)
        if workspace is None or envelope.app_user_id not in {None, workspace.app_user_id}:
            log.warning(
                "linear_delivery_of_unknown_workspace", organization=envelope.organization_id
            )
            return
        if envelope.revokes:
            # Stored first: once the tokens are gone, we would not know whose it is if it came again.
            await self._receive(gone(envelope, delivery_id=delivery_id, at=at))
            await self._workspaces.drop(envelope.organization_id)
            return
        inbound = parse_event(
            payload, Arrival(to=workspace.installation, delivery_id=delivery_id, at=at)
        )
        if inbound is None:
            _tell(envelope, payload)
            if envelope.type == "PermissionChange":
                self._teams_changed()
            return
        await self._sessions.take(inbound, self._receive)


def _tell(envelope: Envelope, payload: Mapping[str, object]) -> None:
    if envelope.type == "PermissionChange":
        log.warning(
            "linear_teams_changed",
            organization=envelope.organization_id,
            added=payload.get("addedTeamIds"),
            removed=payload.get("removedTeamIds"),
        )
    else:
        log.info("linear_delivery_ignored", kind=envelope.type, action=envelope.action)
