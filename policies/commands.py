"""What a broker runs for a program that is not in the sandbox. Pure and total: what is not understood is refused.

One tool so far, `gh`, of which only reading is open, and only the task's own repository.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

TOOLS = frozenset({"gh"})
MOST_ARGUMENTS = 20
MOST_CHARACTERS = 500

Verb: TypeAlias = Literal["pr view", "pr diff", "pr checks", "issue view"]
_VERBS: dict[tuple[str, str], Verb] = {
    ("pr", "view"): "pr view",
    ("pr", "diff"): "pr diff",
    ("pr", "checks"): "pr checks",
    ("issue", "view"): "issue view",
}
_NUMBER = re.compile(r"#?([1-9][0-9]{0,8})", re.ASCII)
_URL = re.compile(r"https://[^/?#]+/([^/?#]+/[^/?#]+)/(pull|issues)/([1-9][0-9]{0,8})/?", re.ASCII)
_OPEN = (
    "Open here: gh pr view|diff|checks [NUMBER], gh issue view NUMBER, on {repo}, and --comments."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What to read."""

    verb: Verb
    number: int | None
    """None: the pull request of the task."""
    comments: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    reason: str
    """For the agent: why, and what is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flag:
    name: str
    value: str | None = None


def decide(tool: str, argv: Sequence[str], *, repo: str) -> Call | Refused:
    """`argv` is what follows the tool's name."""
    if tool not in TOOLS:
        return _refused("There is no broker for this program.", repo)
    if len(argv) > MOST_ARGUMENTS or any(len(text) > MOST_CHARACTERS for text in argv):
        return _refused("That is too long.", repo)
    parts = list(_parts(argv))
    words = [part for part in parts if isinstance(part, str)]
    verb = _VERBS.get((words[0], words[1])) if len(words) > 1 else None
    if verb is None:
        return _refused("This command is not open.", repo)
    flags = [part for part in parts if isinstance(part, _Flag)]
    if reason := next(filter(None, (_flag_refusal(flag, repo) for flag in flags)), ""):
        return _refused(reason, repo)
    return _call(verb, words[2:], repo=repo, comments=any(f.name == "--comments" for f in flags))


def _parts(argv: Sequence[str]) -> Iterator[str | _Flag]:
    """Words and flags; the flag that has a value gets it, however it is written."""
    rest = iter(argv)
    for text in rest:
        if text in {"-R", "--repo"}:
            yield _Flag(name="--repo", value=next(rest, ""))
        elif text.startswith("--repo="):
            yield _Flag(name="--repo", value=text.removeprefix("--repo="))
        elif text in {"-c", "--comments"}:
            yield _Flag(name="--comments")
        elif text.startswith("-"):
            yield _Flag(name=text)
        else:
            yield text


def _flag_refusal(flag: _Flag, repo: str) -> str:
    if flag.name == "--comments":
        return ""
    if flag.name != "--repo":
        return f"The option {flag.name.partition('=')[0]} is not open: the answer is plain text."
    if (flag.value or "").casefold() != repo.casefold():
        return "Another repository is not open."
    return ""


def _call(verb: Verb, words: Sequence[str], *, repo: str, comments: bool) -> Call | Refused:
    if len(words) > 1:
        return _refused("Name one thing at a time.", repo)
    number = _number(verb, words[0], repo) if words else None
    if words and number is None:
        return _refused("Name it by its number, or by its address in this repository.", repo)
    if number is None and verb == "issue view":
        return _refused("Say which issue.", repo)
    return Call(verb=verb, number=number, comments=comments)


def _number(verb: Verb, text: str, repo: str) -> int | None:
    if plain := _NUMBER.fullmatch(text):
        return int(plain[1])
    kind = "issues" if verb == "issue view" else "pull"
    address = _URL.fullmatch(text)
    if address and address[1].casefold() == repo.casefold() and address[2] == kind:
        return int(address[3])
    return None


def _refused(why: str, repo: str) -> Refused:
    return Refused(reason=f"{why} {_OPEN.format(repo=repo)}")
