"""Requests over keep-alive connections: each connection asks again as soon as it is answered."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.slack_payloads import payload, signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    seconds: float
    latencies: tuple[float, ...]
    """Each in seconds."""

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds


def mention(event_id: str, ts: str, *, text: str) -> bytes:
    """A signed `app_mention`, as the bytes of an HTTP request."""
    return _signed(payload("app_mention", ts=ts, event_ts=ts, text=text) | {"event_id": event_id})


def reply(event_id: str, ts: str) -> bytes:
    """What somebody says in a thread that has nothing to do with the bot: most of what it gets."""
    event = {"type": "message", "channel_type": "channel", "thread_ts": "1600000000.000100"}
    raw = payload("app_mention", ts=ts, event_ts=ts, text="I had the same yesterday", **event)
    return _signed(raw | {"event_id": event_id})


# Any: a payload is raw JSON.
def _signed(raw: dict[str, Any]) -> bytes:
    body = json.dumps(raw).encode()
    headers = signed(body, at=time.time()) | {"host": "errand", "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /slack/events HTTP/1.1\r\n{head}\r\n".encode() + body


async def burst(port: int, requests: Sequence[bytes], *, connections: int) -> Load:
    """All of them, over so many connections."""
    waiting = iter(requests)
    latencies: list[float] = []
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for reader, writer in streams:
            group.create_task(_ask(reader, writer, waiting=waiting, latencies=latencies))
    seconds = time.perf_counter() - begun
    for _, writer in streams:
        writer.close()
    return Load(seconds=seconds, latencies=tuple(latencies))


async def _ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    waiting: Iterator[bytes],
    latencies: list[float],
) -> None:
    for request in waiting:
        begun = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise ConnectionError(head.decode())
        length = next(x for x in head.split(b"\r\n") if x.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        latencies.append(time.perf_counter() - begun)
