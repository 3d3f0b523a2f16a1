"""The pages over which the app is installed in a workspace: for those that the settings name, and no others."""

import hashlib
import hmac
import secrets
import time
from html import escape
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from integrations.errors import IntegrationError
from integrations.slack.config import SCOPES, SlackConfig
from integrations.slack.workspaces import ManyWorkspaces

log = structlog.get_logger()

AUTHORIZE = "https://slack.com/oauth/v2/authorize"
COOKIE = "errand_slack_install"
STATE_SECONDS = 600


def install_router(workspaces: ManyWorkspaces) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    config = workspaces.config

    @router.get("/slack/install")
    async def install() -> Response:
        nonce = secrets.token_urlsafe(24)
        query = {
            "client_id": config.client_id,
            "scope": ",".join(SCOPES),
            "state": _state(config, nonce, at=int(time.time())),
        }
        answer = RedirectResponse(f"{AUTHORIZE}?{urlencode(query)}", status_code=302)
        answer.set_cookie(
            COOKIE, nonce, max_age=STATE_SECONDS, httponly=True, samesite="lax", secure=True,
            path="/slack",
        )  # fmt: skip
        return answer

    @router.get("/slack/oauth_redirect")
    async def redirected(
        request: Request, code: str = "", state: str = "", error: str = ""
    ) -> Response:
        if error or not code:
            return _page(400, "Not installed", "Slack says that it was called off.")
        if not _is_ours(config, request.cookies.get(COOKIE, ""), state):
            return _page(
                400, "Not installed", "This did not begin here, or too long ago: begin again."
            )
        return await _install(workspaces, code)

    return router


async def _install(workspaces: ManyWorkspaces, code: str) -> Response:
    try:
        installation = await workspaces.redeem(code=code)
    except IntegrationError as problem:
        log.warning("slack_install_failed", error=str(problem))
        return _page(502, "Not installed", "Slack did not take the code: begin again.")
    if installation.team not in workspaces.config.teams:
        log.warning("slack_install_refused", team=installation.team)
        text = f"The workspace {installation.team} is none of ERRAND_SLACK__TEAMS."
        return _page(403, "Not installed", text)
    await workspaces.install(installation)
    return _page(200, "Installed", f"Errand is in {installation.name or installation.team} now.")


def _state(config: SlackConfig, nonce: str, *, at: int) -> str:
    secret = config.client_secret.get_secret_value() if config.client_secret else ""
    signed = hmac.new(secret.encode(), f"{nonce}:{at}".encode(), hashlib.sha256).hexdigest()
    return f"{at}.{signed}"


def _is_ours(config: SlackConfig, nonce: str, state: str) -> bool:
    """Signed by us, for this browser, not long ago."""
    at = state.partition(".")[0]
    if not nonce or not at.isascii() or not at.isdigit():
        return False
    if not 0 <= time.time() - int(at) <= STATE_SECONDS:
        return False
    return hmac.compare_digest(state.encode(), _state(config, nonce, at=int(at)).encode())


def _page(status: int, title: str, text: str) -> HTMLResponse:
    body = f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title><h1>{escape(title)}</h1><p>{escape(text)}"
    return HTMLResponse(body, status_code=status, headers={"Cache-Control": "no-store"})
