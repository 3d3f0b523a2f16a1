"""What a request to a model can make its provider do besides answering. Standard library only: see egress.py.

A finding is one such thing in a body. Policy allows it by the name of its feature; what this version does not know has a
name too (`type:…`, `field:…`), so that a policy need not wait for the next one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from policies.strictjson import fold

FEATURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "web_search": "searches the web",
        "web_fetch": "fetches pages",
        "code_execution": "runs code at the provider",
        "mcp": "calls MCP servers from the provider",
        "computer_use": "works on a computer",
        "file_search": "searches files at the provider",
        "image_generation": "makes images",
        "url_sources": "has the provider fetch a URL",
        "files": "uses files stored at the provider",
        "stored_state": "uses what an earlier request stored at the provider",
        "background": "goes on at the provider when nobody listens",
    }
)
"""With what each does, as the end of a sentence that begins with its part of the body."""

_PREFIXES: Final = (
    ("websearch", "web_search"),
    ("googlesearch", "web_search"),
    ("enterprisewebsearch", "web_search"),
    ("webfetch", "web_fetch"),
    ("urlcontext", "web_fetch"),
    ("codeexecution", "code_execution"),
    ("bashcodeexecution", "code_execution"),
    ("texteditorcodeexecution", "code_execution"),
    ("codeinterpreter", "code_execution"),
    ("executablecode", "code_execution"),
    ("container", "code_execution"),
    ("mcp", "mcp"),
    ("computer", "computer_use"),
    ("filesearch", "file_search"),
    ("imagegeneration", "image_generation"),
    ("itemreference", "stored_state"),
)
_NAME: Final = re.compile(r"(?:type|field):[A-Za-z0-9_.-]{1,60}")
_ODD: Final = re.compile(r"[^A-Za-z0-9_.-]")
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Finding:
    feature: str
    """Empty for what no policy can allow."""
    what: str
    """A noun: `the tool web_search_20250305`."""


def is_allowable(name: str) -> bool:
    """True for what a policy may name under `allow`."""
    return name in FEATURES or _NAME.fullmatch(name) is not None


def typed(kind: object, noun: str) -> Finding:
    """A finding for something with a type that is not known to stay with the client."""
    if not isinstance(kind, str):
        return Finding("", f"{noun} has no readable type")
    folded = fold(kind)
    known = next((name for prefix, name in _PREFIXES if folded.startswith(prefix)), None)
    shown = _shown(kind)
    return Finding(known or f"type:{shown}", f"{noun} {shown}")


def field(name: str) -> Finding:
    """A finding for a member of the body that is not known."""
    shown = _shown(name)
    return Finding(f"field:{shown}", f"the field {shown}")


def malformed(what: str) -> Finding:
    return Finding("", what)


def _shown(text: str) -> str:
    return _ODD.sub("?", text[:_SHOWN]) or "?"
