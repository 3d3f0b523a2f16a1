"""The page of a task: for whoever has its address, and harmless whatever people wrote."""

from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from bot.pages import PageLinks, TaskPages
from bot.states import TaskState
from bot.web import create_app
from tests.contract.flow.office import Office

LINKS = PageLinks(public_url="http://127.0.0.1:8400", secret=SecretStr("secret"))


@pytest.fixture
async def client(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app([TaskPages(store=office.store, links=LINKS).routes()])
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport) as client:
        yield client


async def test_the_address_on_the_card_shows_the_task(
    office: Office, client: httpx.AsyncClient
) -> None:
    await office.hear("acme/web fix the login test")
    [card] = await office.cards()
    page = await client.get(card.url)
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert all(words in page.text for words in ("fix the login test", "queued", "acme/web"))


@pytest.mark.parametrize("key", ["", "0" * 32, "é"])
async def test_without_its_key_a_page_is_as_if_it_were_not_there(
    office: Office, client: httpx.AsyncClient, key: str
) -> None:
    await office.hear("acme/web fix it")
    known = f"/tasks/{(await office.task()).id}"
    answers = [
        await client.get(f"http://127.0.0.1:8400{path}", params={"key": key})
        for path in (known, "/tasks/nobody")
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content


async def test_the_key_of_one_task_opens_no_other(
    office: Office, client: httpx.AsyncClient
) -> None:
    await office.hear("acme/web fix it")
    task = await office.task()
    answer = await client.get(LINKS.address("another").replace("another", task.id, 1))
    assert answer.status_code == 404


async def test_words_of_people_and_agents_are_text(
    office: Office, client: httpx.AsyncClient
) -> None:
    await office.hear("acme/web <script>alert(1)</script>")
    await office.put(
        TaskState.FAILED, reason="<img src=x onerror=alert(1)>", pull_url="javascript:alert(1)"
    )
    page = await client.get((await office.task()).page)
    assert "<script>" not in page.text
    assert "<img" not in page.text
    assert "javascript:" not in page.text


async def test_a_ticket_without_an_errand_leads_somewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("http://127.0.0.1:8400/tasks/")
    assert (page.status_code, "not yet" in page.text) == (200, True)
