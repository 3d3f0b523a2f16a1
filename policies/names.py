"""The spellings that a policy accepts: people, places, repositories, agents, hosts, sizes."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from policies.connections import MODEL_DOMAIN, is_credential_header
from policies.egress import canonical_host
from policies.suffixes import shared_below

_CHANNEL = r"[a-z][a-z0-9_-]{0,31}"
_WORD = r"[!-)+-~]{1,200}"  # printable ASCII without space and `*`
_PERSON = re.compile(rf"{_CHANNEL}:{_WORD}")
_PLACE = re.compile(rf"{_CHANNEL}:(?:{_WORD}|\*)")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_AGENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REPO = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,100}")
_SECRET = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
_COMMAND = re.compile(r"(?!\.)[A-Za-z0-9._+\[-]{1,64}")
_SIZE = re.compile(r"([0-9]{1,15}) ?([kmgt]i?b|b)", re.IGNORECASE)
_PLACE_OF_SERVER = re.compile(r"([^:/]+):([1-9][0-9]{0,4})")

_HIGHEST_PORT = 65535
NEEDED = frozenset({"bash", "env", "git", "python3", "sh"})
"""Programs that the steps around an agent are made of."""

_UNITS = {
    "b": 1,
    **{f"{letter}b": 1000 ** (i + 1) for i, letter in enumerate("kmgt")},
    **{f"{letter}ib": 1024 ** (i + 1) for i, letter in enumerate("kmgt")},
}


_KEYWORD = re.compile(r"[^\W_](?:[\w .+#-]{0,48}[\w+#])?")


def is_repo(text: str) -> bool:
    return _REPO.fullmatch(text) is not None and not text.endswith(".git")


def is_agent(text: str) -> bool:
    return _AGENT.fullmatch(text) is not None


def _is_host(text: str) -> bool:
    return canonical_host(text.encode("ascii", "replace")) == text


def _person(text: str) -> str:
    if not _PERSON.fullmatch(text):
        raise ValueError("write a person as channel:id, like slack:U0DANA")
    return text


def _place(text: str) -> str:
    if text != "*" and not _PLACE.fullmatch(text):
        raise ValueError('write a place as channel:id, like slack:C0WEB, or "slack:*", or "*"')
    return text


def _who(text: str) -> str:
    if text != "*" and not _NAME.fullmatch(text) and not _PERSON.fullmatch(text):
        raise ValueError('write a group of `people`, a person as channel:id, or "*"')
    return text


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a name has small letters, digits, - and _, and starts with a letter")
    return text


def _agent(text: str) -> str:
    if text != "*" and not is_agent(text):
        raise ValueError('write the name of an agent, like claude-code, or "*"')
    return text


def _keyword(text: str) -> str:
    if not _KEYWORD.fullmatch(text):
        raise ValueError("write a word or a few, at most 50 letters, like checkout")
    return text


def _repo(text: str) -> str:
    if not is_repo(text):
        raise ValueError("write a repository as owner/name, like acme/web (no URL, no wildcard)")
    return text


def _repo_or_all(text: str) -> str:
    return text if text == "*" else _repo(text)


def _command(text: str) -> str:
    if not _COMMAND.fullmatch(text):
        raise ValueError("write the name of a program, like curl: no path, no arguments")
    if text in NEEDED:
        raise ValueError(f"a run cannot do without {text}: {', '.join(sorted(NEEDED))} stay")
    return text


def _host(text: str) -> str:
    name = text.removeprefix("*.")
    if not _is_host(name):
        raise ValueError(
            "write one whole host name in small letters, like api.acme.com, or *.acme.com for all below it"
            " (no address, no port, no URL)"
        )
    if name.endswith(".internal") and name.count(".") == 1:
        raise ValueError("NAME.internal is kept for Errand's own endpoints; use a longer name")
    if name == MODEL_DOMAIN or name.endswith(f".{MODEL_DOMAIN}"):
        raise ValueError(f"NAME.{MODEL_DOMAIN} is kept for `connections`; use another name")
    if name != text and (shared := shared_below(name)):
        raise ValueError(
            f"anybody can have a name below {shared}, so {text} would open the run to everybody:"
            " list the hosts that are meant"
        )
    return text


def _secret(text: str) -> str:
    # The value is not repeated: it may be a key that was pasted here by mistake.
    if not _SECRET.fullmatch(text):
        raise ValueError("write the NAME of the secret, like ANTHROPIC_API_KEY, never its value")
    return text


def parse_place(text: str) -> tuple[str, int] | None:
    """From `host:port`; None if it is not that."""
    match = _PLACE_OF_SERVER.fullmatch(text)
    if match is None or int(match[2]) > _HIGHEST_PORT:
        return None
    return match[1], int(match[2])


def _header(text: str) -> str:
    if not is_credential_header(text):
        raise ValueError(
            "write the header that carries the secret in small letters, like x-api-key"
        )
    return text


def _glob(text: str) -> str:
    parts = text.strip("/").split("/")
    if not text.isprintable() or "\\" in text or text.startswith("!"):
        raise ValueError("a path pattern has no backslash, no control character and no leading !")
    if not all(parts) or not {".", ".."}.isdisjoint(parts):
        raise ValueError("a path pattern has no empty part, no . and no ..")
    return text


def _state_name(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("write the state's name as people see it, like In Review")
    return text


def plain_place(text: str) -> str:
    """The spelling of a place in which a label with capitals and spaces can be compared."""
    return "-".join(text.lower().split())


def _size(value: object) -> object:
    """Bytes. MB and its like count by 1000, MiB and its like by 1024, a bare number is bytes."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value)
    if not match:
        raise ValueError("write a size like 5MB (1 MB = 1000 kB) or 4GiB (1 GiB = 1024 MiB)")
    return int(match[1]) * _UNITS[match[2].lower()]


Person = Annotated[str, AfterValidator(_person)]
Place = Annotated[str, AfterValidator(_place)]
Who = Annotated[str, AfterValidator(_who)]
Name = Annotated[str, AfterValidator(_name)]
AgentOrAll = Annotated[str, AfterValidator(_agent)]
Keyword = Annotated[str, AfterValidator(_keyword)]
RepoName = Annotated[str, AfterValidator(_repo)]
RepoOrAll = Annotated[str, AfterValidator(_repo_or_all)]
Command = Annotated[str, AfterValidator(_command)]
Host = Annotated[str, AfterValidator(_host)]
SecretName = Annotated[str, AfterValidator(_secret)]
Header = Annotated[str, AfterValidator(_header)]
StateName = Annotated[str, Field(max_length=80), AfterValidator(_state_name)]
Glob = Annotated[str, AfterValidator(_glob)]
Size = Annotated[int, Field(strict=True), BeforeValidator(_size)]
Count = Annotated[int, Field(strict=True)]
