"""Whether a webhook body is what `webhooks.graphql` says."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from graphql import (
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLUnionType,
    build_ast_schema,
)

from tests.support.linear.schema import part

_TYPES: Final = {
    "AgentSessionEvent": "AgentSessionEventWebhookPayload",
    "AppUserNotification": "AppUserNotificationWebhookPayload",
    "PermissionChange": "AppUserTeamAccessChangedWebhookPayload",
    "OAuthApp": "OAuthAppWebhookPayload",
    "Issue": "EntityWebhookPayload",
}


@cache
def _schema() -> GraphQLSchema:
    return build_ast_schema(part("webhooks"))


def faults_of(body: Mapping[str, Any]) -> list[str]:
    """Where a body, before it is stamped, is not what its type says."""
    stamped = {**body, "webhookTimestamp": 0}
    return _wrong(stamped, _schema().type_map[_TYPES[body["type"]]], "body")


# Any: types of graphql-core, and JSON.
def _wrong(value: Any, kind: Any, at: str) -> list[str]:
    if isinstance(kind, GraphQLNonNull):
        return [f"{at} is null"] if value is None else _wrong(value, kind.of_type, at)
    if value is None:
        return []
    if isinstance(kind, GraphQLList):
        return [w for i, one in enumerate(value) for w in _wrong(one, kind.of_type, f"{at}[{i}]")]
    if isinstance(kind, GraphQLUnionType):
        each = [_wrong(value, member, at) for member in kind.types]
        return min(each, key=len)
    if isinstance(kind, GraphQLObjectType):
        strange = [
            f"{at}.{name} is not in the schema" for name in value.keys() - kind.fields.keys()
        ]
        known = [
            w for n, f in kind.fields.items() for w in _wrong(value.get(n), f.type, f"{at}.{n}")
        ]
        return strange + known
    assert isinstance(kind, GraphQLScalarType)
    right = {"String": str, "Float": int | float, "Boolean": bool}.get(kind.name, object)
    return [] if isinstance(value, right) else [f"{at} is no {kind.name}"]
