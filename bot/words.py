"""What a person's words ask for: pure."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Word = Literal["stop", "status", "help", "retry", "thanks", "ticket", "settings", "mute", "unmute"]

_THANKS = frozenset(
    (
        "thanks",
        "thank you",
        "thx",
        "ty",
        "cheers",
        "great",
        "nice",
        "nice one",
        "perfect",
        "awesome",
        "cool",
        "ok",
        "okay",
        "lgtm",
        "good job",
        "well done",
        "👍",
        "🙏",
        "🎉",
    )
)
"""Said to be kind, not to begin anything."""

_RULING = re.compile(
    r"(?:(?P<verb>allow|block) (?P<host>[^ ]+\.[^ ]+)(?: once)?(?: for (?P<repo>[^ ]+/[^ ]+|this repo(?:sitory)?))?"
    r"|keep (?P<kept>[^ ]+\.[^ ]+) blocked)"
)
_WORDS: dict[str, Word] = {
    "stop": "stop",
    "cancel": "stop",
    "abort": "stop",
    "status": "status",
    "help": "help",
    "?": "help",
    "retry": "retry",
    "try again": "retry",
    "settings": "settings",
    "mute": "mute",
    "unmute": "unmute",
}

_OPTION = re.compile(r"(?<!\S)(repo|branch|agent|model)=(\S+)")
_REPO = re.compile(r"(?<![\w./=-])([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?![\w/-])")
_FENCE = re.compile(r"```.*?(```|\Z)", re.DOTALL)
_TICKET = re.compile(
    r"create (?:an? )?(?:issue|ticket)(?: in ([a-z][a-z0-9]{0,9}))?", re.IGNORECASE
)
TITLE_LENGTH = 72
SLUG_LENGTH = 40
MODEL_LENGTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A message, taken apart."""

    word: Word | None
    repo: str | None
    branch: str | None
    """The branch to work on, if one was named."""
    agent: str | None
    model: str | None
    title: str
    prompt: str


def read(text: str, *, repos: Collection[str], title: str = "") -> Request:
    """Take a message apart; a bare `owner/name` counts only if it is one of `repos`.

    What comes with a title of its own is a request, never a single word to us.
    """
    options = dict(_OPTION.findall(_FENCE.sub(" ", text)))
    prompt = _OPTION.sub("", text).strip() if options else text.strip()
    named = _named_repo(text, repos)
    return Request(
        word=None if title else _word(prompt),
        repo=options.get("repo") or named,
        branch=options.get("branch"),
        agent=options.get("agent"),
        model=_model(options.get("model")),
        title=title_of(title or _without_repo(prompt, named)),
        prompt=prompt,
    )


def _model(name: str | None) -> str | None:
    """As it was written, short enough to be said in a refusal."""
    return None if name is None else name[:MODEL_LENGTH]


def _word(text: str) -> Word | None:
    said = text.strip().strip(".!").lower()
    if said in _THANKS:
        return "thanks"
    return "ticket" if _TICKET.fullmatch(said) else _WORDS.get(said)


def team_in(text: str) -> str:
    """The team that a request for a ticket names (`create issue in ENG`); empty if it names none."""
    found = _TICKET.fullmatch(text.strip().strip(".!"))
    return (found[1] or "").upper() if found else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What somebody says about a host that an agent wanted."""

    verdict: Literal["allow", "block"]
    host: str
    for_repo: bool
    """For the whole repository, not only for this errand."""


def ruling_in(text: str) -> Ruling | None:
    """`allow registry.example.com`, with `for owner/name` if it is to last; `block …`, `keep … blocked`."""
    said = " ".join(text.strip().strip(".!").lower().split())
    found = _RULING.fullmatch(said)
    if found is None:
        return None
    host = (found["host"] or found["kept"]).strip("`<>")
    verdict: Literal["allow", "block"] = "allow" if found["verb"] == "allow" else "block"
    return Ruling(verdict=verdict, host=host, for_repo=bool(found["repo"]))


def _named_repo(text: str, repos: Collection[str]) -> str | None:
    by_lower = {repo.lower(): repo for repo in repos}
    for candidate in _REPO.findall(_FENCE.sub(" ", text)):
        if found := by_lower.get(candidate.rstrip(".").lower()):
            return found
    return None


def _without_repo(prompt: str, repo: str | None) -> str:
    """The prompt without the repository's name at its beginning."""
    if repo is None or not prompt.lower().startswith(repo.lower()):
        return prompt
    return prompt[len(repo) :].lstrip(" :,-") or prompt


def title_of(prompt: str) -> str:
    """The first sentence that says something, short enough for a heading and a commit."""
    lines = [line.strip() for line in _FENCE.sub("\n", prompt).splitlines() if line.strip()]
    first = lines[0].strip("#*` ") if lines else "Run a recipe"
    sentence = re.split(r"(?<=[.!?])\s", first)[0].rstrip(".:") or first
    if len(sentence) <= TITLE_LENGTH:
        return sentence
    cut = sentence[: TITLE_LENGTH - 1]
    return (cut.rpartition(" ")[0] or cut).rstrip(" ,;:") + "…"


def slug_of(title: str) -> str:
    """Letters, digits and single dashes: fit for a branch name."""
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return slug[:SLUG_LENGTH].rstrip("-") or "errand"
