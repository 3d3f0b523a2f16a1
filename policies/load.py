"""A policy file becomes a `Policy`, or an error that names the place and what to do."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from policies.document import Document, Loc
from policies.errors import PolicyFileError
from policies.model import Policy

DEFAULT = Path(__file__).with_name("default.yml")
MAX_BYTES = 1_000_000
MAX_PROBLEMS = 20

_WHAT_TO_DO = {
    "extra_forbidden": "there is no such key: check its spelling or take it out",
    "union_tag_not_found": "add `kind`",
    "model_type": "write keys and values here (`key: value`)",
    "dict_type": "write keys and values here (`key: value`)",
    "model_attributes_type": "write keys and values here (`key: value`)",
    "tuple_type": "write a list here (`[one, two]`)",
}


def load_policy(path: Path | None) -> Policy:
    """The policy of this file; without one the packaged default, which refuses everything."""
    path = path or DEFAULT
    return parse_policy(_read(path), path=path)


def parse_policy(text: str, *, path: Path) -> Policy:
    """`path` is for the error only."""
    document = Document(text, path=path)
    if document.data is None:
        raise PolicyFileError(path, ["the file is empty: begin with `version: 1`"])
    try:
        return Policy.model_validate(document.data)
    except ValidationError as error:
        problems = [_problem(document, loc, text) for loc, text in _found(error)]
        raise PolicyFileError(path, problems[:MAX_PROBLEMS]) from error


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) <= MAX_BYTES:
            return raw.decode("utf-8-sig")
    except FileNotFoundError as error:
        problem = "there is no such file: create it, or take the setting that names it out"
        raise PolicyFileError(path, [problem]) from error
    except OSError as error:
        raise PolicyFileError(path, [f"cannot be read ({error.strerror})"]) from error
    except UnicodeDecodeError as error:
        raise PolicyFileError(path, ["is not UTF-8 text: save it as UTF-8"]) from error
    raise PolicyFileError(path, [f"has more than {MAX_BYTES} bytes: that is no policy"])


def _found(error: ValidationError) -> Iterator[tuple[Loc, str]]:
    # Values stay out: one of them may be a key that was pasted by mistake.
    for detail in error.errors(include_url=False, include_input=False):
        if detail["type"] == "dangling":
            yield from detail["ctx"]["problems"]
        else:
            yield detail["loc"], _what_to_do(detail)


def _what_to_do(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return f"add `{detail['loc'][-1]}`"
        case "value_error":
            return str(detail["ctx"]["error"])
        case kind if kind in _WHAT_TO_DO:
            return _WHAT_TO_DO[kind]
        case _:
            return detail["msg"][:1].lower() + detail["msg"][1:]


def _problem(document: Document, loc: Loc, text: str) -> str:
    line = document.line(loc)
    return f"line {line}, {_place(document, loc)}: {text}"


def _place(document: Document, loc: Loc) -> str:
    """`rules[0].may[1]`: what the file has; steps of the model that it has not are left out."""
    place = ""
    at: Loc = ()
    for step in loc:
        if document.has((*at, step)):
            at = (*at, step)
            place += f"[{step}]" if isinstance(step, int) else f".{step}"
    return place.removeprefix(".") or "the whole file"
