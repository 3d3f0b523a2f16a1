"""Sandboxes on this Docker host whose `work` is not there: it may have lost its data directory, and its name with it.

They bear that name, so that no other worker's sweep would ever find them.
"""

import structlog

from runner.lease import Leases
from runner.sandbox import Leftover, SandboxBackend
from runner.station import Station
from runner.trial import is_host_label

log = structlog.get_logger()


async def without_host(
    backend: SandboxBackend, leases: Leases, *, installation: str
) -> list[Leftover]:
    """Those of hosts that are not at work now. Our own host does not count, nor do trials."""
    found = [
        sandbox
        for sandbox in await backend.leftovers(installation=installation)
        if sandbox.containers and sandbox.host != leases.host and not is_host_label(sandbox.host)
    ]
    at_work = {
        host for host in {sandbox.host for sandbox in found} if await leases.is_announced(host)
    }
    return [sandbox for sandbox in found if sandbox.host not in at_work]


class Orphans:
    """Tells of them, once for each host. No more: the host may only be starting again, or be another installation's."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._told: set[str] = set()

    async def look(self) -> None:
        """Errors: those of Docker."""
        station = self._station
        found = await without_host(
            station.backend, station.leases, installation=station.installation
        )
        away = {sandbox.host for sandbox in found}
        for host in sorted(away - self._told):
            runs = [str(sandbox.run) for sandbox in found if sandbox.host == host]
            log.warning("host_away", host=host, runs=runs, hint="errand doctor")
        self._told = away
