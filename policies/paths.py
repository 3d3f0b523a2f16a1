"""Paths of requests, and patterns for them. Standard library only: see egress.py."""

import re
from fnmatch import fnmatchcase

_PATTERN = re.compile(r"(?:/[A-Za-z0-9._~!$&'()+,=:@%*-]+)*/?")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%[0-9A-F]{2})+")
# What is a slash, a dot, a backslash or no character at all, once decoded, is read in two ways.
_HIDDEN = re.compile(r"%(?:2F|5C|2E|25|[01][0-9A-F]|7F)")


def is_path_pattern(text: str) -> bool:
    parts = text.split("/")
    plain = _PATTERN.fullmatch(text) is not None and not {".", ".."} & set(parts)
    return plain and text.startswith("/") and all("**" not in part for part in parts[:-1])


def is_plain(path: str) -> bool:
    """No part is empty but the last, none is . or .., and nothing is encoded that could have been hidden so."""
    parts = path[1:].split("/") if path.startswith("/") else [""]
    named = parts[:-1] if parts[-1] == "" else parts
    if _HIDDEN.search(path) or not all(_SEGMENT.fullmatch(part) for part in named):
        return False
    return not {".", ".."} & set(parts)


def fits(path: str, pattern: str) -> bool:
    wanted, given = pattern.split("/"), path.split("/")
    if wanted[-1] == "**":
        wanted, given = wanted[:-1], given[: len(wanted) - 1]
    if len(wanted) != len(given):
        return False
    return all(fnmatchcase(part, shape) for part, shape in zip(given, wanted, strict=True))
