"""Linear's deliveries: signed, sent, remembered, and sent again on demand."""

import asyncio
import contextlib
import hashlib
import hmac
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from tests.support.linear.payloads import Json
from tests.support.linear.shapes import faults_of

SECRET: Final = "lin_wh_stand-in"
_TIMEOUT_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver said. Linear counts 200 as delivered, and nothing else."""

    status: int | None
    """None where no answer came in time."""
    seconds: float


@dataclass(slots=True, kw_only=True)
class Delivery:
    id: str
    """Linear-Delivery: the same each time it is sent."""
    body: Json
    answers: list[Answer] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.body['type']}/{self.body['action']}"

    @property
    def delivered(self) -> bool:
        return any(answer.status == 200 for answer in self.answers)


@dataclass(slots=True)
class Webhooks:
    """`url` None: webhooks are off, and nothing is sent or remembered."""

    new_id: Callable[[], str]
    url: str | None = None
    secret: str = SECRET
    off: set[str] = field(default_factory=set)
    """Types that the app has not subscribed to."""
    deliveries: list[Delivery] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: asyncio.Queue[Delivery] = field(default_factory=asyncio.Queue)

    def named(self, name: str) -> list[Delivery]:
        """`named("AgentSessionEvent/created")`"""
        return [delivery for delivery in self.deliveries if delivery.name == name]

    async def tell(self, news: list[Json]) -> None:
        """Deliver in this order, and wait for the answers."""
        for delivery in self._taken(news):
            await self.send(delivery)

    def tell_later(self, news: list[Json]) -> None:
        """Deliver beside whatever goes on; `settled` waits for it."""
        for delivery in self._taken(news):
            self._waiting.put_nowait(delivery)

    async def settled(self) -> None:
        await self._waiting.join()

    async def run(self) -> None:
        """Deliver what waits, until cancelled."""
        while True:
            delivery = await self._waiting.get()
            try:
                await self.send(delivery)
            finally:
                self._waiting.task_done()

    async def redeliver(self, n: int = -1, *, at: float | None = None, **more: str) -> Answer:
        """The nth delivery again, with the same id: stamped anew, or at `at` (a Unix time)."""
        return await self.send(self.deliveries[n], at=at, **more)

    async def send(
        self, delivery: Delivery, *, at: float | None = None, secret: str | None = None
    ) -> Answer:
        """A delivery over HTTP, signed with our secret or a wrong one."""
        stamp = int((time.time() if at is None else at) * 1000)
        raw = json.dumps({**delivery.body, "webhookTimestamp": stamp}, ensure_ascii=False).encode()
        headers = self.headers(delivery, raw, stamp=stamp, secret=secret)
        answer = await _posted(self.url or "", raw, headers)
        delivery.answers.append(answer)
        self.changed.set()
        return answer

    def headers(
        self, delivery: Delivery, raw: bytes, *, stamp: int, secret: str | None = None
    ) -> dict[str, str]:
        return {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Linear-Webhook",
            "Linear-Delivery": delivery.id,
            "Linear-Event": delivery.body["type"],
            "Linear-Signature": sign(raw, secret or self.secret),
            "Linear-Timestamp": str(stamp),
        }

    def _taken(self, news: list[Json]) -> list[Delivery]:
        taken, news[:] = list(news), []
        for body in taken:
            assert (wrong := faults_of(body)) == [], (body["type"], wrong)
        wanted = [body for body in taken if self.url is not None and body["type"] not in self.off]
        made = [Delivery(id=self.new_id(), body=body) for body in wanted]
        self.deliveries.extend(made)
        return made


def sign(raw: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()


async def _posted(url: str, raw: bytes, headers: dict[str, str]) -> Answer:
    started, status = time.monotonic(), None
    limit = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with (
            aiohttp.ClientSession(timeout=limit) as client,
            client.post(url, data=io.BytesIO(raw), headers=headers) as response,
        ):
            await response.read()
            status = response.status
    return Answer(status, time.monotonic() - started)
