"""Whether the app is well in its workspaces: for `errand doctor`, and now and then."""

import asyncio
import contextlib
from typing import Final

import structlog

from integrations.errors import AuthError, IntegrationError
from integrations.linear.answers import Who
from integrations.linear.api import Api
from integrations.linear.documents import WHO
from integrations.linear.workspaces import Workspace

log = structlog.get_logger()

_NOT_INSTALLED: Final = (
    "Linear: the app is installed nowhere. Run errand linear setup, and open the link it gives while"
    " errand serve runs."
)
_REVOKED: Final = (
    "Linear: {name} has taken the app out. Run errand linear setup, and install it again; until"
    " then what is to be said there waits."
)
_REFUSED: Final = "Linear does not accept the app in {name} ({code}). Run errand linear setup, and install it again."
_CREDENTIALS: Final = (
    "Linear does not accept the client credentials ({code}): turn them on in the app's settings, and"
    " set ERRAND_LINEAR__CLIENT_ID and ERRAND_LINEAR__CLIENT_SECRET to the app's."
)
_NO_TEAMS: Final = (
    "Linear: the app may see no team in {name}. In Linear, Settings, Applications, give it teams."
)
_AWAY: Final = "{error}: check the network and ERRAND_LINEAR__API_URL."


async def checkup(api: Api) -> list[str]:
    try:
        workspaces = await api.workspaces.all()
    except AuthError as error:
        return [_CREDENTIALS.format(code=error.code)]
    except IntegrationError as error:
        return [_AWAY.format(error=error)]
    if not workspaces:
        return [_NOT_INSTALLED]
    return [problem for one in workspaces for problem in await _of(api, one)]


async def _of(api: Api, workspace: Workspace) -> list[str]:
    name = workspace.name
    if workspace.revoked:
        return [_REVOKED.format(name=name)]
    try:
        who = await api.ask(workspace.organization_id, WHO, Who)
    except AuthError as error:
        return [_REFUSED.format(name=name, code=error.code)]
    except IntegrationError as error:
        return [_AWAY.format(error=error)]
    return [] if who.teams.nodes else [_NO_TEAMS.format(name=name)]


async def keep_up(api: Api, *, every_seconds: float, changed: asyncio.Event) -> None:
    """Ask what has changed in the workspaces, until cancelled: new teams, another name of the app.

    Now and then, and at once where Linear says that something has `changed`.
    """
    while True:
        changed.clear()
        try:
            for workspace in await api.workspaces.installed():
                await api.workspaces.learn(await api.ask(workspace.organization_id, WHO, Who))
        except IntegrationError as error:
            log.warning("linear_not_asked", error=str(error))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every_seconds):
                await changed.wait()
