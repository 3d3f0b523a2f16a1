"""What runs does not end because Docker is away for a while: containers may outlive it, and what has not begun can wait."""

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

import structlog

from runner.errors import SandboxAwayError, SandboxDiffersError, SandboxStartError
from runner.sandbox import Sandbox
from runner.station import Pace

log = structlog.get_logger()
T = TypeVar("T")

OUTAGES: Final = 10
"""So often Docker may be away in the course of one run."""
FALTERS: Final = 5
"""So often Docker may refuse what concerns containers that are there, before the run is given up and begun anew."""
LACKS: Final = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    }
)  # fmt: skip
"""What a host may lack: space, a disk that takes something, files, memory."""


async def outlast(
    attempt: Callable[[], Awaitable[T]],
    *,
    look: Callable[[], Awaitable[object]],
    stopping: Callable[[], bool],
    pace: Pace,
) -> T | None:
    """What `attempt` gives, begun again as often as Docker was away and came back; None if it is to be stopped meanwhile.

    Args:
        attempt: may begin anywhere.
        look: asks Docker anything.
        stopping: nobody wants it any more.
        pace: says how long an outage may be.

    Raises:
        SandboxAwayError: it lasts longer than that.
    """
    for _ in range(OUTAGES):
        try:
            return await attempt()
        except SandboxAwayError as error:
            log.warning("docker_away", error=str(error))
            await _until_it_answers(look, stopping, pace)
            if stopping():
                return None
    return await attempt()


async def ensured(sandbox: Sandbox, *, begun: bool, pace: Pace) -> None:
    """`ensure` the sandbox: with what had begun Docker may falter some times, for instance just after its start.

    Raises:
        SandboxStartError: as `ensure` does, at once where nothing had begun, another try would not help, or Docker is away.
    """
    for _ in range(FALTERS if begun else 0):
        try:
            return await sandbox.ensure()
        except (SandboxDiffersError, SandboxAwayError):
            raise
        except SandboxStartError as error:
            log.warning("docker_falters", error=str(error))
            await asyncio.sleep(pace.renew)
    return await sandbox.ensure()


async def _until_it_answers(
    look: Callable[[], Awaitable[object]], stopping: Callable[[], bool], pace: Pace
) -> None:
    began = time.monotonic()
    while not stopping():
        await asyncio.sleep(pace.poll)
        try:
            await look()
        except SandboxAwayError:
            if time.monotonic() - began > pace.outage:
                raise
        else:
            return


def lacking(errors: BaseExceptionGroup[OSError]) -> OSError:
    """The first of them, if an operator can do something for all; else the group is raised again."""
    leaves = list(_leaves(errors))
    if any(error.errno not in LACKS for error in leaves):
        raise errors
    return leaves[0]


def _leaves(error: OSError | BaseExceptionGroup[OSError]) -> Iterator[OSError]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
