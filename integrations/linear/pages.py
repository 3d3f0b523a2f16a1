"""The two pages of an installation: to Linear for an admin's consent, and back."""

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from html import escape
from typing import Final

import structlog
from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from integrations.errors import IntegrationError, RejectedError
from integrations.linear.config import LinearConfig
from integrations.linear.oauth import consent_url, is_ticket
from integrations.linear.workspaces import Workspaces
from integrations.notes import Notes
from integrations.wording import one_line

log = structlog.get_logger()

PENDING: Final = "linear:oauth:"
CONSENT_LASTS: Final = timedelta(minutes=15)
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


class _Pending(BaseModel):
    """A consent that was asked for, and not given yet."""

    model_config = ConfigDict(frozen=True)

    verifier: str
    until: AwareDatetime


def redirect_uri(public_url: str) -> str:
    """Where Linear sends the admin back to."""
    return f"{public_url}/linear/oauth/callback"


class Installer:
    def __init__(
        self,
        config: LinearConfig,
        *,
        workspaces: Workspaces,
        notes: Notes,
        public_url: str,
        now: Callable[[], datetime],
    ) -> None:
        self._config = config
        self._workspaces = workspaces
        self._notes = notes
        self._back = redirect_uri(public_url)
        self._now = now

    def routes(self) -> APIRouter:
        router = APIRouter()

        @router.get("/linear/oauth/authorize", include_in_schema=False)
        async def authorize(ticket: str = "") -> Response:
            if not is_ticket(self._config, ticket, now=self._now()):
                return _page(403, "This link has expired", "Get a new one: errand linear setup")
            return RedirectResponse(await self._consent(), status_code=302, headers=_HEADERS)

        @router.get("/linear/oauth/callback", include_in_schema=False)
        async def callback(code: str = "", state: str = "", error: str = "") -> Response:
            if error:
                return _page(400, "Not installed", f"Linear says: {error}")
            return await self._install(code, state)

        return router

    async def _consent(self) -> str:
        await self._forget_old()
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        pending = _Pending(verifier=verifier, until=self._now() + CONSENT_LASTS)
        await self._notes.put(_name(state), pending.model_dump_json())
        return consent_url(self._config, state=state, verifier=verifier, redirect_uri=self._back)

    async def _forget_old(self) -> None:
        for name in await self._notes.names(PENDING):
            raw = await self._notes.get(name)
            if _read(raw, now=self._now()) is None:
                await self._notes.swap(name, raw, None)

    async def _install(self, code: str, state: str) -> Response:
        raw = await self._notes.get(_name(state))
        pending = _read(raw, now=self._now())
        # Taken away before it is used: a state is good once.
        if pending is None or not await self._notes.swap(_name(state), raw, None):
            return _page(400, "Not installed", "This link was used, or is too old: begin again.")
        try:
            workspace = await self._workspaces.exchange(
                code=code, verifier=pending.verifier, redirect_uri=self._back
            )
        except RejectedError as problem:
            log.warning("linear_not_installed", error=str(problem))
            return _page(400, "Not installed", str(problem))
        except IntegrationError as problem:
            log.warning("linear_not_installed", error=str(problem))
            return _page(502, "Not installed", f"{problem}. Begin again in a moment.")
        teams = ", ".join(workspace.team_keys) or "none yet"
        return _page(
            200,
            f"Errand is installed in {workspace.name}",
            f"It may see these teams: {teams}. Mention @{workspace.app_name} in a ticket, or delegate one to it.",
        )


def _name(state: str) -> str:
    return PENDING + hashlib.sha256(state.encode(errors="replace")).hexdigest()


def _read(raw: str | None, *, now: datetime) -> _Pending | None:
    try:
        pending = _Pending.model_validate_json(raw or "")
    except ValidationError:
        return None
    return pending if pending.until > now else None


def _page(status: int, title: str, text: str) -> HTMLResponse:
    shown = [escape(one_line(part)[:500]) for part in (title, text)]
    body = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{shown[0]}</title>"
        "<style>body{font:16px/1.5 sans-serif;max-width:40em;margin:4em auto;padding:0 1em}</style>"
        f"<h1>{shown[0]}</h1><p>{shown[1]}</p></html>"
    )
    return HTMLResponse(body, status_code=status, headers=_HEADERS)
