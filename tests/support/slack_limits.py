"""What Slack refuses: the SDK's own models, and the limits that they leave out."""

import json
from collections.abc import Iterator
from typing import Any

from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block as SdkBlock
from slack_sdk.models.views import View

Json = dict[str, Any]

RICH = frozenset({"plan", "task_card", "context_actions"})
"""Blocks that not every workspace has."""
MESSAGE_BLOCKS, VIEW_BLOCKS = 50, 100
TEXTS = 12_000
"""Of all blocks of a message together: from a little over this on Slack says `msg_blocks_too_long`."""
PLACE = {"section": 3000, "header": 150, "context": 3000, "input": 2000}


def problem_of_message(text: str, blocks: list[Json], *, rich: bool = True) -> str | None:
    """The code with which Slack would refuse it."""
    if not rich and any(block["type"] in RICH for block in blocks):
        return "invalid_blocks"
    if len(blocks) > MESSAGE_BLOCKS or any(True for block in blocks for _ in _problems(block)):
        return "invalid_blocks"
    if sum(len(found) for block in blocks for found in texts_in(block)) > TEXTS:
        return "msg_blocks_too_long"
    return "msg_too_long" if not 1 <= len(text) <= 40_000 else None


def problem_of_view(view: Json) -> str | None:
    known = View(**view)
    try:
        known.validate_json()
    except SlackObjectFormationError as error:
        return str(error)
    sizes = [(view.get(part) or {}).get("text", "") for part in ("title", "submit", "close")]
    too_long = [text for text in sizes if len(text) > 24]
    if too_long or len(view["blocks"]) > VIEW_BLOCKS or not view["blocks"]:
        return "invalid_arguments"
    if len(view.get("private_metadata", "")) > 3000 or len(view.get("callback_id", "")) > 255:
        return "invalid_arguments"
    ids = [block["block_id"] for block in view["blocks"] if "block_id" in block]
    if len(ids) != len(set(ids)):
        return "duplicate block_id"
    return next((p for block in view["blocks"] for p in _problems(block)), None)


def _problems(block: Json) -> Iterator[str]:
    known = SdkBlock.parse(block)
    if known is None:
        yield f"unknown block {block['type']}"
        return
    try:
        known.to_dict()
    except SlackObjectFormationError as error:
        yield str(error)
    limit = PLACE.get(block["type"], 3000)
    if any(not 1 <= len(found) <= limit for found in texts_in(block)):
        yield "a text is empty or too long"
    for element in [*block.get("elements", []), *filter(None, [block.get("element")])]:
        yield from _element_problems(element)
    names = [e["action_id"] for e in block.get("elements", []) if "action_id" in e]
    if len(names) != len(set(names)):
        yield "two elements of one action_id"


def _element_problems(element: Json) -> Iterator[str]:
    sizes = {
        "value": (element.get("value", ""), 2000),
        "url": (element.get("url", ""), 3000),
        "initial_value": (element.get("initial_value", ""), 3000),
        "action_id": (element.get("action_id", ""), 255),
    }
    yield from (name for name, (text, limit) in sizes.items() if len(text) > limit)
    if element["type"] == "button" and not 1 <= len(element["text"]["text"]) <= 75:
        yield "button text"
    if element["type"] == "static_select":
        options = element["options"]
        sound = all(
            1 <= len(o["text"]["text"]) <= 75 and 1 <= len(o["value"]) <= 150 for o in options
        )
        if not sound or not 1 <= len(options) <= 100:
            yield "options"


def texts_in(part: object) -> Iterator[str]:
    """Every text that is shown."""
    if isinstance(part, dict):
        if part.get("type") == "task_card":
            yield str(part["title"])
        for name, value in part.items():
            if (
                name in {"text", "title"}
                and isinstance(value, str)
                and part.get("type") != "task_card"
            ):
                yield value
            elif name not in {"value", "url"}:
                yield from texts_in(value)
    elif isinstance(part, list):
        for inner in part:
            yield from texts_in(inner)


def parsed(value: object) -> Any:
    """An argument that may have come as JSON in a form."""
    return json.loads(value) if isinstance(value, str) else value
