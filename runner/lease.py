"""Who may run what: one script that claims, renews and adopts; and what a host says of itself."""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from redis.asyncio import Redis

from runner import keys
from runner.meter import Meter
from runner.patience import patiently
from runner.protocol import RunKey

LEASE_MS: Final = 30_000
HOST_MS: Final = 30_000

# Answers the standing, whether we were written down as the owner before, and which server this is: after a first claim,
# an owner that is gone says that Redis lost its data, and another start or another machine that it may have lost the end of it.
_CLAIM: Final = """
if redis.call('HEXISTS', KEYS[1], 'disowned:' .. ARGV[1]) == 1 then return {'DISOWNED', 0} end
local fence = redis.call('HGET', KEYS[1], 'fence')
if not fence or tonumber(fence) < tonumber(ARGV[1]) then return {'UNKNOWN', 0} end
if fence ~= ARGV[1] then return {'STALE', 0} end
local owner = redis.call('HGET', KEYS[1], 'owner:' .. fence)
if owner and owner ~= ARGV[2] then return {'TAKEN', 0} end
local state = redis.call('HGET', KEYS[1], 'state') or 'live'
if state == 'done' then
  redis.call('DEL', KEYS[2])
  return {state, 1}
end
redis.call('HSET', KEYS[1], 'owner:' .. fence, ARGV[2])
redis.call('SET', KEYS[2], ARGV[2] .. ':' .. fence, 'PX', ARGV[3])
redis.call('SADD', KEYS[3], ARGV[4])
return {state, owner and 1 or 0, string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''}
"""


class Standing(StrEnum):
    """What a claim answers."""

    UNKNOWN = "UNKNOWN"
    """Redis has no such run: it lost data, or has yet to be told. Keep running, ask again."""
    STALE = "STALE"
    """Another attempt is current: end and clean up, silently."""
    TAKEN = "TAKEN"
    """Another host has this attempt: as STALE."""
    LIVE = "live"
    CANCEL = "cancel"
    """Ours, and to be stopped."""
    DISOWNED = "DISOWNED"
    """The database has no such run: it was restored from an older copy. Set it aside."""
    DONE = "done"
    """The end was applied: remove the containers and forget the run."""


LOST: Final = frozenset({Standing.STALE, Standing.TAKEN})
GONE: Final = LOST | {Standing.DONE, Standing.DISOWNED}


@dataclass(frozen=True, slots=True)
class Claim:
    standing: Standing
    known: bool
    """Redis knew us as the owner before this claim."""
    server: str = field(default="", compare=False)
    """Another one after each start of Redis, and after a failover; empty where the claim is not ours."""


class Leases:
    """One host's claims. Errors that time mends are waited out, for ever."""

    def __init__(self, redis: Redis, *, host: str, meter: Meter | None = None) -> None:
        self._redis = redis
        self.host = host
        self._meter = meter or Meter()

    async def claim(self, run: RunKey) -> Claim:
        """Claim, renew or adopt: all the same. Safe at any time."""
        names = (keys.task(run.task), keys.lease(run.task), keys.mine(self.host))
        args = (str(run.fence), self.host, str(LEASE_MS), str(run))
        answer = await patiently(
            lambda: self._redis.eval(_CLAIM, len(names), *names, *args),
            failed=self._meter.renewal_failed,
        )
        server = _text(answer[2]) if answer[2:] else ""
        return Claim(Standing(_text(answer[0])), known=bool(answer[1]), server=server)

    async def mine(self) -> set[RunKey]:
        """What this host has claimed and not yet cleaned up."""
        members = await patiently(lambda: self._redis.smembers(keys.mine(self.host)))
        return {_run(_text(member)) for member in members}

    async def forget(self, run: RunKey) -> None:
        """The run is cleaned up. Safe twice."""
        await patiently(lambda: self._redis.srem(keys.mine(self.host), str(run)))

    async def announce(
        self, *, slots: int, free: int, version: str, draining: bool = False
    ) -> None:
        """Say that this host lives, for the next 30 s."""
        record = {
            "host": self.host, "slots": slots, "free": free, "version": version,
            "draining": draining,
        }  # fmt: skip
        text = json.dumps(record)
        await patiently(lambda: self._redis.set(keys.host(self.host), text, px=HOST_MS))

    async def is_announced(self, host: str) -> bool:
        """Whether that host lives."""
        return bool(await patiently(lambda: self._redis.exists(keys.host(host))))

    async def withdraw(self) -> None:
        """Say that this host takes nothing more."""
        await patiently(lambda: self._redis.delete(keys.host(self.host)))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _run(member: str) -> RunKey:
    task, _, fence = member.rpartition(":")
    return RunKey(task=task, fence=int(fence))
