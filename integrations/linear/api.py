"""Linear's API in a workspace: the token is found, and renewed once where it is not taken."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from integrations.errors import AuthError, MalformedPayloadError, RejectedError
from integrations.invalid import invalid_fields
from integrations.linear.answers import ActivityOf, Done
from integrations.linear.documents import ACTIVITY, CREATE_ACTIVITY
from integrations.linear.graphql import CALL_SECONDS, GraphQL
from integrations.linear.refusals import is_duplicate
from integrations.linear.workspaces import Workspaces

T = TypeVar("T", bound=BaseModel)
Json = Mapping[str, Any]
"""Any: variables are JSON."""


class Api:
    """Raises `IntegrationError`'s leaves, and the store's own errors."""

    def __init__(self, *, graphql: GraphQL, workspaces: Workspaces) -> None:
        self._graphql = graphql
        self.workspaces = workspaces

    async def ask(
        self,
        team: str,
        document: str,
        shape: type[T],
        *,
        seconds: float = CALL_SECONDS,
        **given: Any,
    ) -> T:
        """One call, in the workspace with the id `team`."""
        data = await self._call(team, document, given, seconds=seconds)
        try:
            return shape.model_validate(data)
        except ValidationError as error:
            fields = invalid_fields(error, most=3)
            raise MalformedPayloadError(f"Linear answered without a valid {fields}") from None

    async def _call(
        self, team: str, document: str, given: dict[str, Any], *, seconds: float
    ) -> Any:
        token = await self.workspaces.token(team)
        try:
            return await self._graphql.execute(document, given, token=token, seconds=seconds)
        except AuthError:
            token = await self.workspaces.renewed(team, used=token)
        return await self._graphql.execute(document, given, token=token, seconds=seconds)

    async def act(self, team: str, activity: Json, *, seconds: float = CALL_SECONDS) -> None:
        """Create an activity that has an id of ours: once, however often."""
        try:
            await self.ask(team, CREATE_ACTIVITY, Done, seconds=seconds, activity=activity)
        except RejectedError as error:
            await self.pass_if_there(team, activity, error)

    async def pass_if_there(self, team: str, activity: Json, error: RejectedError) -> None:
        """A refusal because it is there already is what we wanted; any other is raised."""
        if isinstance(error, AuthError):
            raise error
        if not is_duplicate(error) and not await self.has(
            team, str(activity["agentSessionId"]), str(activity["id"])
        ):
            raise error

    async def has(self, team: str, session: str, activity: str) -> bool:
        """Whether the session has an activity with this id; False too where there is no such session."""
        try:
            found = await self.ask(team, ACTIVITY, ActivityOf, session=session, id=activity)
        except AuthError:
            raise
        except RejectedError:
            return False
        return bool(found.agent_session.activities.nodes)
