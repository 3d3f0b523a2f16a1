"""A conversation of ours is begun on a ticket: one that is there, or a new one."""

from integrations.channel import Conversation, Opening
from integrations.errors import AuthError, RejectedError
from integrations.linear import render
from integrations.linear.answers import Done, Teams
from integrations.linear.api import Api
from integrations.linear.documents import CREATE_ISSUE, TEAM_BY_KEY
from integrations.linear.events import NAME
from integrations.linear.ids import made_from
from integrations.linear.refusals import is_duplicate
from integrations.linear.sessions import Sessions, with_page


class Openings:
    def __init__(self, api: Api, sessions: Sessions) -> None:
        self._api = api
        self._sessions = sessions

    async def open(self, where: Conversation, opening: Opening, *, key: str) -> Conversation:
        """Safe twice: the ticket has an id of ours, and the session leads to the task's page."""
        team, team_id = await self._team(where)
        item = where.thread
        if not item:
            item = made_from(team, where.place, key, "issue")
            await self._ticket(team, team_id, item, opening)
        issue = await self._sessions.on_issue(team, item)
        session = with_page(issue, opening.url) or await self._sessions.begin(
            team, issue.id, opening.url
        )
        return where.model_copy(update={"team": team, "place": issue.team.key, "thread": session})

    async def _team(self, where: Conversation) -> tuple[str, str]:
        """The workspace that has the team, and the team's id there."""
        installed = await self._api.workspaces.installed()
        for workspace in installed:
            if where.team in {"", workspace.organization_id}:
                team = workspace.organization_id
                answer = await self._api.ask(team, TEAM_BY_KEY, Teams, key=where.place)
                if answer.teams.nodes:
                    return team, answer.teams.nodes[0].id
        if not installed:
            raise AuthError(NAME, "not_installed")
        raise RejectedError(NAME, f"there is no team {where.place} that the app may see")

    async def _ticket(self, team: str, team_id: str, issue_id: str, opening: Opening) -> None:
        asked = {
            "id": issue_id,
            "teamId": team_id,
            "title": render.opening_title(opening),
            "description": render.opening_text(opening),
        }
        try:
            await self._api.ask(team, CREATE_ISSUE, Done, input=asked)
        except AuthError:
            raise
        except RejectedError as error:
            if not is_duplicate(error):
                await self._sessions.on_issue(team, issue_id)  # there after all, or it raises
