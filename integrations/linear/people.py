"""What people are called."""

from integrations.errors import AuthError, RejectedError
from integrations.linear.answers import User, UserName, Users
from integrations.linear.api import Api
from integrations.linear.documents import USER_BY_EMAIL, USER_BY_ID
from integrations.linear.events import AUTOMATION, NAME
from integrations.wording import one_line


class People:
    """Asked once each."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._names: dict[str, str] = {}

    async def name_of(self, person: str) -> str:
        if person == AUTOMATION:
            return "an automation"
        if person not in self._names:
            self._names[person] = await self._asked(person.removeprefix(f"{NAME}:"))
        return self._names[person]

    async def _asked(self, who: str) -> str:
        """In the first workspace that knows them."""
        for workspace in await self._api.workspaces.installed():
            found = await self._in(workspace.organization_id, who)
            name = one_line(found.display_name or found.name) if found else ""
            if name:
                return name
        raise RejectedError(NAME, f"nobody here is {who}")

    async def _in(self, team: str, who: str) -> UserName | None:
        if "@" in who:
            answer = await self._api.ask(team, USER_BY_EMAIL, Users, email=who)
            return next(iter(answer.users.nodes), None)
        try:
            return (await self._api.ask(team, USER_BY_ID, User, id=who)).user
        except AuthError:
            raise
        except RejectedError:
            return None
