"""The page of a task: what is known of it, for whoever has its address."""

import hashlib
import hmac
from dataclasses import dataclass

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, select_autoescape
from pydantic import SecretStr

from bot.progress import View
from bot.pulls import state_word
from bot.states import TERMINAL
from bot.store import runs, tasks
from bot.store.engine import Store
from integrations.wording import clean, duration, money

KEY_LENGTH = 32
_NEVER_CACHED = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
_PAGES = Environment(loader=PackageLoader("bot"), autoescape=select_autoescape(default=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLinks:
    """Addresses that cannot be guessed: whoever was given one may read that page, and no other."""

    public_url: str
    secret: SecretStr

    def address(self, task: str) -> str:
        return f"{self.public_url}/tasks/{task}?key={self.key(task)}"

    def key(self, task: str) -> str:
        secret = self.secret.get_secret_value().encode()
        signed = hmac.new(secret, f"page:{task}".encode(), hashlib.sha256)
        return signed.hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPages:
    store: Store
    links: PageLinks

    def routes(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.get("/tasks/", response_class=HTMLResponse)(self.none_yet)
        router.get("/tasks/{task}", response_class=HTMLResponse)(self.page)
        return router

    async def none_yet(self) -> HTMLResponse:
        """Where a ticket leads to as long as there is no errand for it."""
        return HTMLResponse(_PAGES.get_template("none.html").render(), headers=_NEVER_CACHED)

    async def page(self, task: str, key: str = "") -> HTMLResponse:
        """404 for a wrong key as for an unknown task: neither tells which it was."""
        if not hmac.compare_digest(key.encode(), self.links.key(task).encode()):
            raise HTTPException(404, "there is no such page")
        async with self.store.read() as conn:
            row = await tasks.get(conn, task)
            if row is None:
                raise HTTPException(404, "there is no such page")
            attempts = await runs.of_task(conn, task)
            state = await state_word(conn, row)
        view = View.model_validate(attempts[-1].view) if attempts else View()
        text = _PAGES.get_template("task.html").render(
            task=row,
            state=state,
            live=row.state not in TERMINAL,
            view=view,
            runs=attempts,
            cost=money(view.cost_usd) if view.cost_usd is not None else "",
            duration=duration,
            clean=clean,
        )
        return HTMLResponse(text, headers=_NEVER_CACHED)
