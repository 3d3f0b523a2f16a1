"""Which names are shared by everybody, so that a wildcard over them would not name anyone."""

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

_FILE = "shared_suffixes.txt"


def shared_below(name: str) -> str | None:
    """A shared suffix that `*.<name>` would open, or None if there is none known."""
    if "." not in name:
        return name
    for suffix, pattern in _shared():
        if pattern.fullmatch(name) or suffix.endswith(f".{name}"):
            return suffix.replace("??", name[-2:])
    return None


@cache
def _shared() -> Sequence[tuple[str, re.Pattern[str]]]:
    text = resources.files("policies").joinpath(_FILE).read_text("ascii")
    names = [line.strip() for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, _pattern(name)) for name in names]


def _pattern(name: str) -> re.Pattern[str]:
    """`?` stands for one letter, `*` for one label."""
    escaped = re.escape(name).replace(r"\?", "[a-z0-9]").replace(r"\*", "[a-z0-9-]+")
    return re.compile(escaped)
