"""Processes that stand beside Errand: the bare route, Slack, and Linear. Run: python -m tests.bench.children NAME PORT"""

import asyncio
import contextlib
import hashlib
import hmac
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import uvicorn
from aiohttp import web
from fastapi import FastAPI, Request, Response

from tests.support.installation import until
from tests.support.linear import payloads
from tests.support.linear.limits import Bucket, Limits
from tests.support.linear.server import LinearApi, application
from tests.support.ports import free_port
from tests.support.slack_api import BOT_ID, BOT_USER, TEAM
from tests.support.slack_limits import problem_of_message
from tests.support.slack_payloads import SIGNING_SECRET

ROOT = Path(__file__).parents[2]
Name = Literal["bare", "slack", "linear"]


def bare() -> FastAPI:
    """A route that only checks the HMAC: what no webhook can do without."""
    app = FastAPI()

    @app.post("/slack/events")
    async def events(request: Request) -> Response:
        body = await request.body()
        to_sign = b"v0:" + request.headers["x-slack-request-timestamp"].encode() + b":" + body
        digest = hmac.new(SIGNING_SECRET.encode(), to_sign, hashlib.sha256).hexdigest()
        good = hmac.compare_digest(f"v0={digest}", request.headers["x-slack-signature"])
        return Response(status_code=200 if good else 401)

    return app


def slack() -> web.Application:
    """A Slack that takes everything and keeps nothing, so that it costs next to nothing."""
    posted = 0

    async def method(request: web.Request) -> web.Response:
        nonlocal posted
        posted += 1
        if request.match_info["method"] == "auth.test":
            who = {"url": "https://acme.example/", "team_id": TEAM, "user_id": BOT_USER}
            return web.json_response({"ok": True, "bot_id": BOT_ID} | who)
        if request.match_info["method"] == "chat.postMessage":
            args = await request.json()
            if (problem := problem_of_message(args["text"], args["blocks"])) is not None:
                return web.json_response({"ok": False, "error": problem})
        return web.json_response({"ok": True, "ts": f"1800000000.{posted:06}"})

    app = web.Application()
    app.router.add_route("*", "/api/{method}", method)
    return app


def linear() -> web.Application:
    """The tests' own Linear. `/bench/delegated` hands tickets over, and gives the deliveries that tell of them."""
    without = Limits(requests=Bucket(limit=1e9), complexity=Bucket(limit=1e12))
    api = LinearApi(limits=without)

    async def delegated(request: web.Request) -> web.Response:
        told = []
        for _ in range(int(request.query["count"])):
            issue = api.world.issue("Fix the greeting", description=request.query["text"])
            session = await api.people.delegate(issue)
            told.append(payloads.session_created(api.world, session, before=[]))
        return web.json_response(told)

    async def seen(_: web.Request) -> web.Response:
        """When each session showed life first, which have ended, and when the last one showed progress."""
        signs = {s.id: s.first_sign_at.timestamp() for s in api.world.sessions if s.first_sign_at}
        ended = [s.id for s in api.world.sessions if s.status in {"complete", "error"}]
        last = api.world.sessions[-1].history
        shown = [a.created_at.timestamp() for a in last if a.content.type == "action"]
        edits = api.count("ShowProgress")
        return web.json_response(
            {
                "signs": signs,
                "ended": ended,
                "requests": api.count(),
                "edits": edits,
                "shown": shown,
            }
        )

    app = application(api)
    app.router.add_get("/bench/delegated", delegated)
    app.router.add_get("/bench/seen", seen)
    return app


@dataclass(frozen=True, slots=True)
class Child:
    port: int
    pid: int


@contextlib.asynccontextmanager
async def child(name: Name) -> AsyncIterator[Child]:
    """The process, for as long as the block lasts."""
    port = free_port()
    argv = [sys.executable, "-m", "tests.bench.children", name, str(port)]
    with _running(argv) as pid:

        async def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        await until(listens, seconds=60, what=f"{name} listens")
        yield Child(port, pid)


@contextlib.contextmanager
def _running(argv: list[str]) -> Iterator[int]:
    with subprocess.Popen(argv, cwd=ROOT, env=dict(os.environ)) as process:
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def main() -> None:
    name, port = sys.argv[1], int(sys.argv[2])
    apps = {"slack": slack, "linear": linear}
    if name in apps:
        web.run_app(apps[name](), host="127.0.0.1", port=port, print=None, access_log=None)
        return
    config = uvicorn.Config(bare(), port=port, log_level="warning", access_log=False)
    asyncio.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main()
