"""Webhook bodies of Linear's types, as hypothesis makes them up: every field that the schema knows, null where it may be."""

from functools import cache
from typing import Any

from graphql import (
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    build_ast_schema,
)
from hypothesis import strategies as st

from tests.support.linear.schema import part

Json = dict[str, Any]
"""Any: a body is JSON."""
ORGANIZATION = "0b5a7c1e-6f0a-4a53-9a5e-0f6f5b1f7a01"
APP_USER = "0b5a7c1e-6f0a-4a53-9a5e-0f6f5b1f7a02"
ACTIONS = {
    "AgentSessionEvent": ("created", "prompted", "somethingNew"),
    "AppUserNotification": (
        "issueUnassignedFromYou", "issueStatusChanged", "issueEmojiReaction", "issueNewComment",
        "somethingNew",
    ),
    "PermissionChange": ("teamAccessChanged",),
    "OAuthApp": ("revoked",),
    "Issue": ("create", "update", "remove"),
}  # fmt: skip
TYPES = {
    "AgentSessionEvent": "AgentSessionEventWebhookPayload",
    "AppUserNotification": "AppUserNotificationWebhookPayload",
    "PermissionChange": "AppUserTeamAccessChangedWebhookPayload",
    "OAuthApp": "OAuthAppWebhookPayload",
    "Issue": "EntityWebhookPayload",
}
SOMEBODY = "0b5a7c1e-6f0a-4a53-9a5e-0f6f5b1f7a03"
_IDS = st.sampled_from([SOMEBODY, ORGANIZATION, APP_USER])
_OURS = st.sampled_from([APP_USER, APP_USER, APP_USER, SOMEBODY])
"""Mostly, or hardly any delivery would be for us."""
_TEXT = st.text(max_size=20) | st.sampled_from(
    ["@errand fix it", "stop", "🛑", "\x00\x1b[2J", "<b>x</b>", "dana@acme.example", "ENG"]
)
_STRUCTURE = st.dictionaries(
    st.sampled_from(["body", "type", "labelIds", "stateId"]),
    _TEXT | st.none() | st.lists(_TEXT, max_size=2),
    max_size=3,
)


@cache
def _schema() -> GraphQLSchema:
    return build_ast_schema(part("webhooks"))


@st.composite
def bodies(draw: st.DrawFn) -> Json:
    """A delivery of any type, of our workspace or of another."""
    kind = draw(st.sampled_from(list(TYPES)))
    action = draw(st.sampled_from(ACTIONS[kind]))
    body: Json = draw(_solid(_schema().type_map[TYPES[kind]], "body"))
    more = {"type": kind, "action": action, "organizationId": ORGANIZATION}
    return body | draw(_beside(action)) | more


def _beside(action: str) -> st.SearchStrategy[Json]:
    """What an action is nothing without, though the type leaves it open."""
    of_action = {"prompted": ("agentActivity", "AgentActivityWebhookPayload")}
    if action in of_action:
        name, kind = of_action[action]
        return st.fixed_dictionaries({name: _solid(_schema().type_map[kind], name)})
    if action == "update":
        return st.fixed_dictionaries({"updatedFrom": _STRUCTURE})
    return st.just({})


# Any: types of graphql-core.
def _values(kind: Any, name: str) -> st.SearchStrategy[Any]:
    if isinstance(kind, GraphQLNonNull):
        return _solid(kind.of_type, name)
    return st.none() | _solid(kind, name)


def _solid(kind: Any, name: str) -> st.SearchStrategy[Any]:
    if isinstance(kind, GraphQLList):
        return st.lists(_values(kind.of_type, name), max_size=2)
    if isinstance(kind, GraphQLUnionType):
        return st.one_of([_solid(member, name) for member in kind.types])
    if isinstance(kind, GraphQLObjectType):
        return st.fixed_dictionaries(
            {n: _values(f.type, n) for n, f in kind.fields.items() if _must(f.type)},
            optional={n: _values(f.type, n) for n, f in kind.fields.items() if not _must(f.type)},
        )
    return _scalar(kind.name, name)


def _must(kind: Any) -> bool:
    return isinstance(kind, GraphQLNonNull)


def _scalar(kind: str, name: str) -> st.SearchStrategy[Any]:
    if name == "appUserId":
        return _OURS
    if name == "id" or name.endswith(("Id", "Ids")):
        return _IDS
    by_kind: dict[str, st.SearchStrategy[Any]] = {
        "Boolean": st.booleans(),
        "Float": st.floats(allow_nan=False, allow_infinity=False),
        "JSONObject": _STRUCTURE,
    }
    if name == "key":
        return st.sampled_from(["ENG", "OPS"])
    return by_kind.get(kind, _TEXT)
