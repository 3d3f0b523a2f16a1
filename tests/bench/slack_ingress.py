"""What Bolt costs: signed events to our route, against a route that only checks the HMAC.

Both are served by uvicorn in a process of their own, asked over 8 connections.
Run: python -m tests.bench.slack_ingress
"""

import asyncio
import json
import multiprocessing
import resource
import socket
import sys
import time

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from typing_extensions import override

from integrations.channel import Inbound
from integrations.slack.channel import SlackChannel
from integrations.slack.client import SlackClient
from integrations.slack.config import SlackConfig
from integrations.slack.identity import Identity
from integrations.slack.workspaces import OneWorkspace
from integrations.testing_front import FakeFront
from tests.bench.children import bare
from tests.support.slack_payloads import BOT, SIGNING_SECRET, payload, signed

REQUESTS = 8000
CONNECTIONS = 8
ROUNDS = 3


class KnownClient(SlackClient):
    @override
    async def identity(self) -> Identity:
        return BOT


def ours() -> FastAPI:
    config = SlackConfig(bot_token=SecretStr("xoxb-1"), signing_secret=SecretStr(SIGNING_SECRET))

    async def receive(_: Inbound) -> bool:
        return True

    workspaces = OneWorkspace(KnownClient(config))
    router = SlackChannel(config, front=FakeFront(), workspaces=workspaces).routes(receive)
    assert router is not None
    app = FastAPI()
    app.include_router(router)
    return app


def serve(name: str, listener: socket.socket) -> None:
    app = ours() if name == "ours" else bare()
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none")
    uvicorn.Server(config).run(sockets=[listener])


async def ask(port: int, request: bytes, times: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(times):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise ConnectionError(head.decode())
        length = next(x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
    writer.close()


async def load(port: int) -> None:
    body = json.dumps(payload("app_mention")).encode()
    headers = signed(body, at=time.time()) | {"host": "errand", "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST /slack/events HTTP/1.1\r\n{head}\r\n".encode() + body
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(ask(port, request, REQUESTS // CONNECTIONS))


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(name: str) -> float:
    """Requests per second of processor time: other load on the machine hardly changes it."""
    listener = socket.create_server(("127.0.0.1", 0))
    process = multiprocessing.Process(target=serve, args=(name, listener))
    before = cpu_seconds()
    process.start()
    try:
        asyncio.run(load(listener.getsockname()[1]))
    finally:
        process.terminate()
        process.join()
        listener.close()
    return REQUESTS / (cpu_seconds() - before)


def main() -> None:
    pairs = [(measure("ours"), measure("bare")) for _ in range(ROUNDS)]
    mine, other = (max(rates) for rates in zip(*pairs, strict=True))
    sys.stdout.write(f"Slack {mine:.0f}/s, bare HMAC {other:.0f}/s, ratio {mine / other:.2f}\n")


if __name__ == "__main__":
    main()
