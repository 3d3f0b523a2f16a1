import re
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr, ValidationError

from integrations.slack import names
from integrations.slack.arrivals import GONE
from integrations.slack.config import EVENTS, SCOPES, SlackConfig
from integrations.slack.events import LISTENED

CODE = Path(__file__).parents[3] / "integrations" / "slack"
HISTORIES = ("channels:history", "groups:history", "im:history", "mpim:history")
PLACES = ("channels:read", "groups:read", "im:read", "mpim:read")
CALLED: dict[str, tuple[str, ...]] = {
    "agents.sessions.setStatus": ("chat:write",),
    "apps_connections_open": (),
    "assistant.threads.setSuggestedPrompts": ("assistant:write",),
    "auth_test": (),
    "chat_postMessage": ("chat:write",),
    "chat_update": ("chat:write",),
    "conversations.history": HISTORIES,
    "conversations.open": ("im:write",),
    "conversations.replies": HISTORIES,
    "files_upload_v2": ("files:write",),
    "oauth.v2.access": (),
    "reactions.add": ("reactions:write",),
    "reactions.remove": ("reactions:write",),
    "users.conversations": PLACES,
    "users.info": ("users:read",),
    "views.open": (),
    "views.publish": (),
}
"""The methods that are called, each with the scopes it needs, by Slack's reference."""
HEARD = {
    "agent_session_stopped": "",
    "app_context_changed": "",
    "app_home_opened": "",
    "app_mention": "app_mentions:read",
    "app_uninstalled": "",
    "message.channels": "channels:history",
    "message.groups": "groups:history",
    "message.im": "im:history",
    "message.mpim": "mpim:history",
    "reaction_added": "reactions:read",
    "tokens_revoked": "",
}
BESIDES = {"commands", "files:read"}
"""For the command and the shortcuts, and to download what is attached."""
FAMILIES = (
    "admin|agents|apps|assistant|auth|bookmarks|bots|calls|canvases|chat|conversations|dnd|emoji|entity|files|"
    "functions|oauth|pins|reactions|reminders|search|stars|team|tooling|usergroups|users|views|workflows"
)
METHOD = re.compile(rf'"((?:{FAMILIES})\.[a-zA-Z0-9.]+)"|web\(\)\.((?:{FAMILIES})_[a-zA-Z0-9_]+)\(')

MANIFEST = yaml.safe_load((Path(__file__).parents[3] / "manifest.yml").read_text())


def test_the_manifest_asks_for_exactly_what_the_code_uses() -> None:
    assert MANIFEST["oauth_config"]["scopes"]["bot"] == list(SCOPES)


def test_the_manifest_subscribes_to_exactly_what_the_code_reads() -> None:
    assert MANIFEST["settings"]["event_subscriptions"]["bot_events"] == list(EVENTS)


def test_the_code_calls_what_its_scopes_are_for_and_nothing_else() -> None:
    written = "\n".join(path.read_text() for path in sorted(CODE.glob("*.py")))
    called = {name or wrapped for name, wrapped in METHOD.findall(written)} - set(EVENTS)
    assert called == set(CALLED)
    needed = {scope for scopes in CALLED.values() for scope in scopes}
    needed |= {scope for scope in HEARD.values() if scope}
    assert needed | BESIDES == set(SCOPES)


def test_the_code_listens_to_what_it_subscribes_to() -> None:
    kinds = {name.partition(".")[0] for name in EVENTS}
    assert kinds == LISTENED | GONE | {"app_home_opened", "app_context_changed"}
    assert set(HEARD) == set(EVENTS)


def test_the_manifest_needs_no_public_address() -> None:
    assert MANIFEST["settings"]["socket_mode_enabled"] is True
    assert MANIFEST["features"]["app_home"]["messages_tab_enabled"] is True
    assert MANIFEST["features"]["app_home"]["messages_tab_read_only_enabled"] is False


def test_the_manifest_names_the_shortcuts_and_the_command_of_the_code() -> None:
    features = MANIFEST["features"]
    kinds = {shortcut["callback_id"]: shortcut["type"] for shortcut in features["shortcuts"]}
    assert kinds == {names.HAND_OVER: "message", names.NEW: "global"}
    assert [command["command"] for command in features["slash_commands"]] == [names.COMMAND]
    assert features["slash_commands"][0]["should_escape"] is True
    assert features["app_home"]["home_tab_enabled"] is True
    assert MANIFEST["settings"]["interactivity"]["is_enabled"] is True


def test_the_manifest_is_within_slack_s_limits() -> None:
    features = MANIFEST["features"]
    assert len(MANIFEST["display_information"]["name"]) <= 35
    assert len(MANIFEST["display_information"]["description"]) <= 140
    assert len(features["agent_view"]["agent_description"]) <= 300
    assert len(features["agent_view"]["suggested_prompts"]) <= 4
    assert all(len(s["name"]) <= 24 and len(s["description"]) <= 150 for s in features["shortcuts"])


def test_the_docs_give_a_reason_for_every_permission() -> None:
    page = (Path(__file__).parents[3] / "docs" / "channels" / "slack.md").read_text()
    for name, reason in (SCOPES | EVENTS).items():
        assert f"| `{name}` | {reason} |" in page


def test_a_bot_that_could_hear_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"app_token .Socket Mode.* or signing_secret"):
        SlackConfig(bot_token=SecretStr("xoxb-1"))


def test_secrets_are_not_shown() -> None:
    config = SlackConfig(bot_token=SecretStr("xoxb-1"), app_token=SecretStr("xapp-1"))
    assert "xoxb" not in repr(config)
    assert "xapp" not in repr(config)
