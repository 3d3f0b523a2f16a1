"""How much Bolt costs: signed events through our route, against a route that only checks the HMAC.

Run: python -m tests.bench.slack_ingress
"""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI, Request, Response
from pydantic import SecretStr
from starlette.types import ASGIApp, Message

from integrations.channel import Inbound
from integrations.slack.channel import SlackChannel
from integrations.slack.client import SlackClient
from integrations.slack.config import SlackConfig
from integrations.slack.identity import Identity

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
SAMPLE = Path(__file__).parents[1] / "samples" / "slack" / "app_mention.json"
REQUESTS = 3000
ROUNDS = 3


class KnownClient(SlackClient):
    async def identity(self) -> Identity:
        return Identity(team_id="T0ACME", user_id="U0ERRAND", bot_id="B0ERRAND", url="")


def ours() -> FastAPI:
    config = SlackConfig(bot_token=SecretStr("xoxb-1"), signing_secret=SecretStr(SECRET))

    async def receive(inbound: Inbound) -> bool:
        return True

    router = SlackChannel(config, client=KnownClient(config)).routes(receive)
    assert router is not None
    app = FastAPI()
    app.include_router(router)
    return app


def bare() -> FastAPI:
    app = FastAPI()

    @app.post("/slack/events")
    async def events(request: Request) -> Response:
        body = await request.body()
        signed = b"v0:" + request.headers["x-slack-request-timestamp"].encode() + b":" + body
        digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        good = hmac.compare_digest(f"v0={digest}", request.headers["x-slack-signature"])
        return Response(status_code=200 if good else 401)

    return app


def signed_headers(body: bytes) -> dict[str, str]:
    stamp = str(int(time.time()))
    digest = hmac.new(SECRET.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    return {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-slack-request-timestamp": stamp,
        "x-slack-signature": f"v0={digest}",
    }


async def call(app: ASGIApp, body: bytes, headers: Mapping[str, str]) -> int:
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/slack/events",
        "raw_path": b"/slack/events",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return status


async def rate(app: ASGIApp) -> float:
    body = SAMPLE.read_bytes()
    json.loads(body)
    headers = signed_headers(body)
    assert await call(app, body, headers) == 200
    start = time.perf_counter()
    for _ in range(REQUESTS):
        await call(app, body, headers)
    return REQUESTS / (time.perf_counter() - start)


async def main() -> None:
    mine, other = ours(), bare()
    pairs = [(await rate(mine), await rate(other)) for _ in range(ROUNDS)]
    best_mine, best_bare = (max(values) for values in zip(*pairs, strict=True))
    print(
        f"Slack route {best_mine:.0f}/s, bare HMAC route {best_bare:.0f}/s, ratio {best_mine / best_bare:.2f}"
    )


if __name__ == "__main__":
    asyncio.run(main())
