"""Words of a request that stand for a repository: pure."""

import re
from collections.abc import Iterable

_FENCED = re.compile(r"```.*?(```|\Z)", re.DOTALL)
"""Code is no talk about where it belongs."""


def found_in(text: str, keywords: Iterable[str]) -> str:
    """The first of the keywords that the text has as a word of its own; empty if none."""
    said = " ".join(_FENCED.sub(" ", text).casefold().split())
    return next((keyword for keyword in keywords if _is_in(said, keyword)), "")


def _is_in(said: str, keyword: str) -> bool:
    wanted = re.escape(" ".join(keyword.casefold().split()))
    return re.search(rf"(?<![\w/.-]){wanted}(?![\w/-])", said) is not None
