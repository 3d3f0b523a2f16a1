"""What `errand doctor` finds wrong with the Slack app, each with what to do."""

from integrations.errors import IntegrationError, RejectedError
from integrations.slack.client import SlackClient
from integrations.slack.config import SCOPES
from integrations.slack.identity import Identity
from integrations.slack.workspaces import Workspaces

_BOT_REFUSED = (
    "Slack does not accept the bot token ({code}): reinstall the app and set"
    " ERRAND_SLACK__BOT_TOKEN to its Bot User OAuth Token."
)
_NO_BOT = "ERRAND_SLACK__BOT_TOKEN is no bot's token: take the Bot User OAuth Token (xoxb-…)."
_SCOPES_MISSING = (
    "The Slack app lacks {scopes}: paste manifest.yml into its App Manifest page and reinstall it."
)
_APP_REFUSED = (
    "Slack does not accept the app-level token ({code}): turn Socket Mode on and set"
    " ERRAND_SLACK__APP_TOKEN to a token with connections:write."
)


async def problems_of(workspaces: Workspaces, caller: SlackClient) -> list[str]:
    problems: list[str] = []
    for client in await workspaces.clients():
        problems += await _of_workspace(client)
    try:
        await caller.try_app_token()
    except RejectedError as error:
        problems.append(_APP_REFUSED.format(code=error.code))
    except IntegrationError as error:
        problems.append(f"{error}: Socket Mode could not be tried.")
    return problems


async def _of_workspace(client: SlackClient) -> list[str]:
    try:
        return _shortcomings(await client.who())
    except RejectedError as error:
        return [_BOT_REFUSED.format(code=error.code)]
    except IntegrationError as error:
        return [f"{error}: check the network and ERRAND_SLACK__API_URL."]


def _shortcomings(bot: Identity) -> list[str]:
    problems = [] if bot.bot_id else [_NO_BOT]
    missing = sorted(SCOPES.keys() - bot.scopes) if bot.scopes is not None else []
    return [*problems, _SCOPES_MISSING.format(scopes=", ".join(missing))] if missing else problems
