"""Linear's Markdown, read and written: pure.

What a model or a repository wrote may call nobody, load nothing, and hide no address. Instead of
escapes, which mean something else within code, a letter without width stands between the letters
that together would do so: it is the same wherever Linear thinks that code begins.
"""

import re

from integrations.wording import clean, one_line

ZERO_WIDTH = "\u200b"

_MENTION = re.compile(r"@(?=\w)")
_LINK_OR_DEFINITION = re.compile(r"\](?=[(\[:])")
_HTML = re.compile(r"<(?=[A-Za-z/!?])")
_LINEAR = re.compile(r"(?<=linear)(?=\.app\b)", re.IGNORECASE)
"""Linear makes an address of its own into a mention."""
_FENCES = re.compile(r"`{3,}")


def without_mention(text: str, name: str) -> str:
    """The text without the mention, wherever it stands; at the front, without its colon or comma."""
    if not name:
        return text.strip()
    mention = rf"(?:\[@?{re.escape(name)}\]\([^()\s]*\)|(?<![\w.])@{re.escape(name)}(?![\w-]))"
    text = re.sub(rf"\A\s*(?:{mention}[ \t]*[:,]?\s*)+", "", text, flags=re.IGNORECASE)
    return re.sub(rf"[ \t]?{mention}", "", text, flags=re.IGNORECASE).strip()


def mentions(text: str, name: str) -> bool:
    return bool(name) and without_mention(text, name) != text.strip()


def defuse(text: str) -> str:
    """The same to read, but it calls nobody, shows no picture, and each address is seen."""
    text = clean(text)
    for pattern, to in (
        (_MENTION, f"@{ZERO_WIDTH}"),
        (_LINK_OR_DEFINITION, f"]{ZERO_WIDTH}"),
        (_HTML, f"<{ZERO_WIDTH}"),
        (_LINEAR, ZERO_WIDTH),
    ):
        text = pattern.sub(to, text)
    return text


def limited(text: str, limit: int) -> str:
    """At most so many characters, and … where some are missing."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def written(text: str, limit: int) -> str:
    return limited(defuse(text).strip(), limit)


def written_line(text: str, limit: int) -> str:
    """As `written`, on one line."""
    return limited(defuse(one_line(text)), limit)


def code(text: str, limit: int) -> str:
    """One line in backticks."""
    return f"`{written_line(text, limit).replace('`', 'ˋ') or ' '}`"  # noqa: RUF001  a look-alike that ends no code


def code_block(text: str, limit: int) -> str:
    """The end of a text in a fence that nothing inside can close."""
    safe = defuse(text).strip("\n")
    if not safe.strip():
        return ""
    if len(safe) > limit:
        safe = "…" + safe[len(safe) - limit + 1 :]
    longest = max((len(run) for run in _FENCES.findall(safe)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}\n{safe}\n{fence}"


def link(label: str, url: str) -> str:
    """A link of ours: the address must be known to be good."""
    return f"[{written_line(label, 200).replace('[', '(').replace(']', ')')}](<{url}>)"


def is_web(url: str) -> bool:
    """An address that may be shown as a link."""
    return re.fullmatch(r"https?://[^\s<>\"\\]{1,2000}", url) is not None
