"""JSON that every reader reads in the same way. Standard library only: see egress.py."""

import json
from collections.abc import Container, Mapping

Object = Mapping[str, object]


def read_object(data: bytes) -> dict[str, object] | None:
    """None for what is no JSON object, names a key twice at any depth, or is not what the standard calls JSON."""
    try:
        found = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def folded(data: Object) -> dict[str, object] | None:
    """By keys without capitals and underscores, as lenient servers take them; None if two are then the same."""
    found = {fold(key): value for key, value in data.items()}
    return found if len(found) == len(data) else None


def members_of(value: object) -> dict[str, object] | None:
    """The members of an object as `folded` gives them; None for anything else."""
    return folded(value) if isinstance(value, dict) else None


def items_of(value: object) -> list[object]:
    """Of a list; of a single object, that one; texts and nothing have none."""
    if isinstance(value, list):
        return value
    return [] if value is None or isinstance(value, str) else [value]


def among(value: object, names: Container[str]) -> bool:
    return isinstance(value, str) and value in names


def fold(key: str) -> str:
    return key.casefold().replace("_", "")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _no_constant(name: str) -> object:
    raise ValueError(name)
