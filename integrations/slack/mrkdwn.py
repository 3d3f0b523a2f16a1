"""Slack's markup, read and written: pure."""

import re

from integrations.wording import clean, masked, one_line

ZERO_WIDTH = "\u200b"

_TOKEN = re.compile(r"<([^<>]*)>")
_BROADCAST = re.compile(r"@(?=(?:channel|here|everyone|group)\b)", re.IGNORECASE)
_BOLD = re.compile(r"(?<![\w(*])\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*(?![\w*])")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_FENCED = re.compile(r"(```.*?```)", re.DOTALL)
_LOOK_ALIKES = str.maketrans("*`~", "∗ˋ∼")  # noqa: RUF001  they look alike, and mean nothing
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def mentions(text: str, user: str) -> bool:
    return re.search(rf"<@{re.escape(user)}(\|[^<>]*)?>", text) is not None


def without_mention(text: str, user: str) -> str:
    """The text without the mention, wherever it stands; at the front, without its colon or comma."""
    mention = rf"<@{re.escape(user)}(?:\|[^<>]*)?>"
    text = re.sub(rf"\A\s*(?:{mention}[ \t]*[:,]?\s*)+", "", text)
    return re.sub(rf"[ \t]?{mention}", "", text)


def plain(text: str) -> str:
    """Slack's markup as a person would have typed it; code blocks keep every space and newline."""
    text = _TOKEN.sub(lambda match: _token(match[1]), text)
    for raw, entity in (("<", "&lt;"), (">", "&gt;"), ("&", "&amp;")):
        text = text.replace(entity, raw)
    return clean(text)


def _token(token: str) -> str:
    target, _, label = token.partition("|")
    match target[:1]:
        case "@":
            return target
        case "#":
            return f"#{label or target[1:]}"
        case "!":
            return label or f"@{target[1:].partition('^')[0]}"
        case _:
            return target.removeprefix("mailto:")


def from_markdown(text: str) -> str:
    """Markdown's bold and headings as Slack's; the rest reads well as it is, and links stay bare."""
    parts = _FENCED.split(text)
    parts[::2] = [_HEADING.sub(r"*\1*", _BOLD.sub(r"*\1*", part)) for part in parts[::2]]
    return "".join(parts)


def defuse(text: str) -> str:
    """Words that Slack would turn into a broadcast stay readable, but call nobody."""
    return _BROADCAST.sub(f"@{ZERO_WIDTH}", masked(clean(text)))


def escape(text: str) -> str:
    return "".join(_ENTITIES.get(letter, letter) for letter in text)


def _width(letter: str) -> int:
    # Slack counts what is sent, and may count UTF-16 units.
    return len(_ENTITIES.get(letter, letter)) + (ord(letter) > 0xFFFF)  # noqa: PLR2004  end of the BMP


def written(text: str, limit: int) -> str:
    """Any text as mrkdwn that pings nobody and masks no link, cut at its end to `limit`."""
    safe = defuse(text)
    kept = _fitting(safe, limit)
    return escape(safe if kept == len(safe) else safe[: _fitting(safe, limit - 1)].rstrip() + "…")


def written_line(text: str, limit: int) -> str:
    """As `written`, on one line, and with nothing that could end bold or code around it."""
    return written(one_line(text).translate(_LOOK_ALIKES), limit)


def code(text: str, limit: int) -> str:
    """One line in backticks."""
    return f"`{written(one_line(text).translate(_LOOK_ALIKES) or ' ', limit - 2)}`"


def code_block(text: str, limit: int) -> str:
    """The end of a text in a fence that nothing inside can close."""
    safe = defuse(text).strip("\n").replace("`", f"`{ZERO_WIDTH}")
    room = limit - len("```\n\n```")
    if (kept := _fitting(safe[::-1], room)) < len(safe):
        safe = "…" + safe[len(safe) - _fitting(safe[::-1], room - 1) :]
    elif not kept:
        return ""
    return f"```\n{escape(safe)}\n```"


def _fitting(text: str, limit: int) -> int:
    """How many letters from the front fit."""
    used = 0
    for index, letter in enumerate(text):
        used += _width(letter)
        if used > limit:
            return index
    return len(text)


def pages(text: str, *, page: int, total: int) -> list[str]:
    """A long text in pieces, cut at line ends where there are any, and ended by … at `total`."""
    rest = defuse(text).strip()
    pieces: list[str] = []
    while rest and total > page:
        end = _fitting(rest, page)
        if end < len(rest) and (line_end := rest.rfind("\n", 1, end)) > 0:
            end = line_end
        pieces.append(escape(rest[:end].rstrip()))
        rest = rest[end:].lstrip("\n")
        total -= page
    return [*pieces, written(rest, total)] if rest else pieces
