"""Linear over HTTP on 127.0.0.1: `/graphql` and `/oauth/…`."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.linear.call import Call
from tests.support.linear.entities import User
from tests.support.linear.errors import (
    LinearError,
    rate_limited,
    too_complex,
    unauthenticated,
    ungraphql,
)
from tests.support.linear.execution import Asked, read, run
from tests.support.linear.faults import TOKEN, Fault, Faults, Reply
from tests.support.linear.limits import MOST_POINTS, Limits
from tests.support.linear.oauth import API_KEY, OAuth, OAuthError
from tests.support.linear.people import People
from tests.support.linear.webhooks import Webhooks
from tests.support.linear.world import World, new_id

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One that was answered, or cut."""

    names: tuple[str, ...]
    """The operation's name and root fields; `oauth/token` and the like."""
    variables: Mapping[str, Any]
    status: int | None
    points: float = 0
    authorization: str = ""

    @property
    def input(self) -> Mapping[str, Any]:
        """The `input` variable of a mutation."""
        given: Mapping[str, Any] = self.variables.get("input") or {}
        return given


@dataclass(slots=True)
class LinearApi:
    """Linear's state, its answers, and the faults to come."""

    url: str = ""
    """Without a slash at the end: `<url>/graphql`, `<url>/oauth/token`."""
    world: World = field(default_factory=World)
    webhooks: Webhooks = field(default_factory=lambda: Webhooks(new_id))
    oauth: OAuth = field(default_factory=OAuth)
    limits: Limits = field(default_factory=Limits)
    faults: Faults = field(default_factory=Faults)
    requests: list[Request] = field(default_factory=list)
    people: People = field(init=False)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    holding: int = 0
    """So many requests wait for `release`."""
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.webhooks.changed = self.changed
        self.people = People(world=self.world, webhooks=self.webhooks, oauth=self.oauth)

    # --- what tests do

    def count(self, name: str | None = None) -> int:
        """GraphQL requests so far: all, or those of an operation or root field."""
        asked = [r for r in self.requests if not r.names[0].startswith("oauth/")]
        return len(asked) if name is None else sum(name in r.names for r in asked)

    def inputs(self, name: str) -> list[Mapping[str, Any]]:
        """The inputs of a mutation, oldest first, whatever came of them."""
        return [r.input for r in self.requests if name in r.names]

    async def until(self, true: Callable[[], bool], *, seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                self.changed.clear()
                await self.changed.wait()

    def release(self) -> None:
        """Let go what is held."""
        self._released.set()
        self._released = asyncio.Event()

    # --- HTTP

    async def graphql(self, request: web.Request) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "")
        try:
            body = await _json(request)
            asked = read(body)
        except LinearError as error:
            self._remember(("",), {}, error.http_status, authorization=authorization)
            return _sent(Reply(status=error.http_status, body=json.dumps(error.body())))
        fault = self.faults.take(asked.names)
        reply = await self._through(fault, lambda: self._answer(asked, authorization, fault))
        self._remember(
            asked.names, asked.variables, reply.status if reply else None,
            points=asked.points, authorization=authorization,
        )  # fmt: skip
        return _sent(reply) if reply else _cut(request)

    async def token(self, request: web.Request) -> web.StreamResponse:
        form = {k: v for k, v in (await request.post()).items() if isinstance(v, str)}
        authorization = request.headers.get("Authorization")
        reply = await self._through(
            self.faults.take([TOKEN]),
            lambda: _oauth(lambda: self.oauth.token(form, authorization)),
        )
        self._remember((TOKEN,), form, reply.status if reply else None)
        return _sent(reply) if reply else _cut(request)

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()

        def revoked() -> Json:
            self.oauth.revoke(str(form.get("token", "")))
            return {}

        reply = _oauth(revoked)
        self._remember(("oauth/revoke",), {}, reply.status)
        return _sent(reply)

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """What an admin would see a page of: it is agreed to at once."""
        try:
            back = self.oauth.authorize(request.query)
        except OAuthError as error:
            return _sent(Reply(status=error.status, body=json.dumps(error.body())))
        return web.Response(status=302, headers={"Location": back})

    async def _through(self, fault: Fault, answer: Callable[[], Reply]) -> Reply | None:
        """The answer as the fault has it; None where the line is cut."""
        if fault.hold == "before":
            await self._held()
        reply = answer() if fault.effect else None
        if fault.hold == "after":
            await self._held()
        if fault.cut:
            return None
        return fault.reply() if fault.reply else reply

    async def _held(self) -> None:
        self.holding += 1
        self.changed.set()
        await self._released.wait()
        self.holding -= 1

    def _answer(self, asked: Asked, authorization: str, fault: Fault) -> Reply:
        try:
            viewer = self._viewer(authorization)
            if asked.points > MOST_POINTS:
                raise too_complex(round(asked.points))
            if (what := self.limits.exceeded(asked.points)) is not None:
                raise rate_limited(what)
        except LinearError as error:
            status, body = error.http_status, error.body()
        else:
            self.limits.spend(asked.points)
            call = Call(world=self.world, viewer=viewer, limits=self.limits)
            status, body = run(asked, call)
            self.webhooks.tell_later(self.world.news)
        headers = self.limits.headers(asked.points)
        return Reply(status=status, body=json.dumps(fault.altered(body)), headers=headers)

    def _viewer(self, authorization: str) -> User:
        """The app by its token, Dana by her key, which goes without `Bearer`."""
        if authorization == API_KEY:
            return self.world.dana
        scheme, _, access = authorization.partition(" ")
        if scheme != "Bearer" or not self.oauth.is_valid(access):
            raise unauthenticated()
        return self.world.app

    def _remember(
        self, names: tuple[str, ...], variables: Mapping[str, Any], status: int | None, *,
        points: float = 0, authorization: str = "",
    ) -> None:  # fmt: skip
        self.requests.append(
            Request(names=names, variables=variables, status=status, points=points,
                    authorization=authorization)
        )  # fmt: skip
        self.changed.set()


async def _json(request: web.Request) -> Json:
    try:
        body = await request.json()
    except ValueError as error:
        raise ungraphql("The body is not JSON") from error
    if not isinstance(body, dict):
        raise ungraphql("The body is not an object")
    return body


def _oauth(made: Callable[[], Json]) -> Reply:
    try:
        return Reply(status=200, body=json.dumps(made()))
    except OAuthError as error:
        return Reply(status=error.status, body=json.dumps(error.body()))


def _sent(reply: Reply) -> web.Response:
    return web.Response(
        status=reply.status, text=reply.body, headers=dict(reply.headers),
        content_type=reply.content_type,
    )  # fmt: skip


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def application(api: LinearApi) -> web.Application:
    """Its addresses."""
    app = web.Application()
    app.router.add_post("/graphql", api.graphql)
    app.router.add_get("/oauth/authorize", api.authorize)
    app.router.add_post("/oauth/token", api.token)
    app.router.add_post("/oauth/revoke", api.revoke)
    return app


@asynccontextmanager
async def linear_api() -> AsyncIterator[LinearApi]:
    """Linear, for as long as the block lasts."""
    api = LinearApi()
    runner = web.AppRunner(application(api), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    posting = asyncio.create_task(api.webhooks.run())
    try:
        yield api
    finally:
        posting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await posting
        api.release()
        await runner.cleanup()
