"""The parts that messages, forms and pages in Slack are made of, each within Slack's limits: pure."""

from collections.abc import Sequence
from typing import Literal

from integrations.slack import names
from integrations.slack.mrkdwn import defuse, written_line
from integrations.wording import one_line

Block = dict[str, object]

URL = 3000
BUTTON_TEXT = 75
BUTTON_VALUE = 2000
OPTION_TEXT = 75
OPTION_VALUE = 150
STEP = 120
USER_ID_LENGTHS = range(9, 20)


def section(mrkdwn: str) -> Block:
    # Without `expand` Slack folds longer sections behind «see more».
    return {"type": "section", "expand": True, "text": {"type": "mrkdwn", "text": mrkdwn}}


def context(parts: Sequence[str]) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": part} for part in parts]}


def divider() -> Block:
    return {"type": "divider"}


def actions(elements: Sequence[Block]) -> Block:
    return {"type": "actions", "elements": list(elements)}


def button(
    label: str, name: str, *, value: str, style: Literal["", "primary", "danger"] = ""
) -> Block:
    made: Block = {
        "type": "button",
        "action_id": name,
        "text": plain_text(label, BUTTON_TEXT),
        "value": value,
    }
    return {**made, "style": style} if style else made


def link_button(label: str, url: str, name: str, *, primary: bool = False) -> Block:
    made: Block = {
        "type": "button",
        "action_id": f"{names.LINK}.{name}",
        "text": plain_text(label, BUTTON_TEXT),
        "url": url,
    }
    return {**made, "style": "primary"} if primary else made


def is_address(url: str) -> bool:
    """Fit for a link: an address of the web, and not too long for Slack."""
    return url.startswith(("https://", "http://")) and len(url) <= URL


def option(label: str, value: str) -> Block:
    return {"text": plain_text(label, OPTION_TEXT), "value": value}


def select(name: str, options: Sequence[Block], *, initial: str = "") -> Block:
    chosen = [o for o in options if o["value"] == initial] if initial else []
    made: Block = {"type": "static_select", "action_id": name, "options": list(options)}
    return {**made, "initial_option": chosen[0]} if chosen else made


def plain_text(text: str, limit: int) -> Block:
    """Text in which Slack reads no markup at all, and no `:emoji:`."""
    return {"type": "plain_text", "emoji": False, "text": plain_line(text, limit)}


def plain_line(text: str, limit: int) -> str:
    line = defuse(one_line(text)) or "…"
    if _units(line) > limit:
        line = line[: limit - 1]
        while _units(line) > limit - 1:
            line = line[:-1]
        line = line.rstrip() + "…"
    return line


def _units(text: str) -> int:
    """Slack may count UTF-16 units."""
    return len(text) + sum(ord(letter) > 0xFFFF for letter in text)  # noqa: PLR2004  end of the BMP


def person(name: str) -> str:
    """A Slack user id as a mention; the end of their errand is news to who asked."""
    name = name.removeprefix("slack:")
    is_id = name[:1] in {"U", "W"} and name.isascii() and name.isalnum() and name.isupper()
    return f"<@{name}>" if is_id and len(name) in USER_ID_LENGTHS else written_line(name, STEP)
