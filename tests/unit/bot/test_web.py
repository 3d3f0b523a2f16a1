"""HTTP ends as it should: what was asked before the end is answered."""

import asyncio

import httpx
from fastapi import APIRouter

from bot.settings import HttpSettings
from bot.web import create_app, serve_http
from tests.support.ports import free_port


async def test_a_request_that_came_before_the_end_is_answered() -> None:
    came, answer = asyncio.Event(), asyncio.Event()
    router = APIRouter()

    @router.post("/slack/events")
    async def slow() -> str:
        came.set()
        await answer.wait()
        return "stored"

    settings = HttpSettings(port=free_port())
    async with asyncio.timeout(20), asyncio.TaskGroup() as group, httpx.AsyncClient() as client:
        serving = group.create_task(serve_http(create_app([router]), settings))
        asked = group.create_task(_until_answered(client, f"{settings.local_url}/slack/events"))
        await came.wait()
        serving.cancel()
        group.create_task(_soon(answer))
        assert (await asked).json() == "stored"
    assert serving.cancelled()


async def _soon(answer: asyncio.Event) -> None:
    answer.set()


async def _until_answered(client: httpx.AsyncClient, url: str) -> httpx.Response:
    while True:
        try:
            return await client.post(url)
        except httpx.ConnectError:
            await asyncio.sleep(0.01)
