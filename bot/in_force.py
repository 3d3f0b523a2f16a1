"""The policy that counts now: the newest version of its file that can be used."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from bot.intake import utc_now
from bot.record import record
from bot.store.engine import Store
from bot.store.errors import StoreError
from policies.errors import PolicyError
from policies.load import load_policy
from policies.model import Policy

log = structlog.get_logger()

LOOK_SECONDS = 2.0
_Stamp = tuple[int, int, int] | None


@dataclass(slots=True)
class InForce:
    """What is asked from now on is judged by `policy`; a task that was granted keeps its grant."""

    policy: Policy


@dataclass(slots=True, kw_only=True)
class PolicyFile:
    """Looks after a policy file. A version that cannot be used changes nothing, and the log and the record say why."""

    path: Path
    in_force: InForce
    store: Store
    now: Callable[[], datetime] = utc_now
    look_seconds: float = LOOK_SECONDS
    _seen: _Stamp = (0, 0, 0)
    """No file's: one that was written while `serve` started is looked at too."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self.look_seconds)
            try:
                await self.look()
            except StoreError as error:
                log.warning("policy_not_recorded", error=repr(error))

    async def look(self) -> None:
        """Take a new version, if there is one."""
        found = await asyncio.to_thread(_stamp, self.path)
        if found == self._seen:
            return
        self._seen = found
        try:
            policy = await asyncio.to_thread(load_policy, self.path)
        except PolicyError as error:
            log.warning(
                "policy_refused",
                file=str(self.path),
                in_force=self.in_force.policy.hash,
                error=str(error),
            )
            await self._record("refused", error=str(error))
            return
        if policy.hash == self.in_force.policy.hash:
            return
        self.in_force.policy = policy
        log.info("policy_loaded", hash=policy.hash, file=str(self.path))
        await self._record("loaded")

    async def _record(self, decision: str, **detail: str) -> None:
        policy_hash = self.in_force.policy.hash
        async with self.store.begin() as tx:
            await record(
                tx,
                now=self.now(),
                actor="serve",
                action="policy",
                decision=decision,
                policy_hash=policy_hash,
                **detail,
            )


def _stamp(path: Path) -> _Stamp:
    """Differs when the file was written or replaced; None if it cannot be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
