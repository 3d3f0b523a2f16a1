"""Events out and commands in, over Redis streams."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis

from runner import keys
from runner.patience import ANSWER_SECONDS, patiently
from runner.protocol import Command, EventRecord, RunKey

log = structlog.get_logger()

BLOCK_MS: Final = 1_000
_BATCH = 100


class Streams:
    """A worker's streams. Errors that time mends are waited out, for ever."""

    def __init__(self, redis: Redis, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._redis = redis
        self._read_seconds = BLOCK_MS / 1000 + answer_seconds

    async def publish(self, record: EventRecord) -> None:
        """Safe twice: an event has a key of its own."""
        text = record.model_dump_json()
        await patiently(lambda: self._redis.xadd(keys.EVENTS, {"r": text}))

    async def acknowledged(self, run: RunKey) -> dict[str, int]:
        """By source, the last `seq` that `serve` has applied."""
        fields = await patiently(lambda: self._redis.hgetall(keys.task(run.task)))
        prefix = f"ack:{run.fence}:"
        texts = {_text(name): int(value) for name, value in fields.items() if _is_ack(name, prefix)}
        return {name.removeprefix(prefix): seq for name, seq in texts.items()}

    async def commands(self, host: str) -> AsyncIterator[Command]:
        """Every command for this host from the oldest that is kept, then live; without an end.

        All are told again after a restart, which is harmless: a run acts on a command once.
        """
        last = "0"
        while True:
            position: Any = {keys.commands(host): last}
            answer = await patiently(partial(self._read, position))
            for entry_id, fields in (entry for _, entries in answer for entry in entries):
                last = _text(entry_id)
                if (command := _command(fields)) is not None:
                    yield command

    async def _read(self, position: Any) -> Any:
        async with asyncio.timeout(self._read_seconds):
            return await self._redis.xread(position, count=_BATCH, block=BLOCK_MS)


def _command(fields: Any) -> Command | None:
    try:
        return Command.model_validate_json(fields.get(b"c", fields.get("c", b"")))
    except ValidationError as error:
        log.warning("command_not_understood", errors=error.error_count())
        return None


def _is_ack(name: Any, prefix: str) -> bool:
    return _text(name).startswith(prefix)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
