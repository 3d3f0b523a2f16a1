"""Linear's filters, over any attributes: `{"delegate": {"id": {"eq": …}}, "updatedAt": {"gt": …}}`."""

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic.alias_generators import to_snake

OPERATORS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "in": lambda value, wanted: value in wanted,
    "nin": lambda value, wanted: value not in wanted,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "eq_ignore_case": lambda value, wanted: value.lower() == wanted.lower(),
    "contains": lambda value, wanted: wanted in value,
    "contains_ignore_case": lambda value, wanted: wanted.lower() in value.lower(),
    "starts_with": lambda value, wanted: value.startswith(wanted),
    "ends_with": lambda value, wanted: value.endswith(wanted),
}
_ABSENT: Final = {"neq", "nin"}
"""What holds for a value that is not there."""
ATTRIBUTES: Final = {"labels": "label_list"}
"""Where the attribute has another name than the filter: the field of that name is a connection."""


# Any: what is compared is whatever the schema's comparators compare.
def matches(value: Any, wanted: Mapping[str, Any] | None, *, viewer: object) -> bool:
    """Whether a value, an entity or a collection of them fits."""
    return all(
        _fits(value, to_snake(name), condition, viewer=viewer)
        for name, condition in (wanted or {}).items()
        if condition is not None
    )


def _fits(value: Any, name: str, condition: Any, *, viewer: object) -> bool:
    if name in {"and", "or"}:
        each = (matches(value, one, viewer=viewer) for one in condition)
        return all(each) if name == "and" else any(each)
    if name == "null":
        return (value is None) is bool(condition)
    if name in OPERATORS:
        return _compares(value, name, condition)
    if isinstance(value, Sequence):
        return _holds(value, name, condition, viewer=viewer)
    return value is not None and matches(
        value is viewer if name == "is_me" else getattr(value, ATTRIBUTES.get(name, name)),
        condition,
        viewer=viewer,
    )


def _compares(value: Any, name: str, wanted: Any) -> bool:
    if value is None:
        return name in _ABSENT
    if isinstance(value, datetime):
        wanted = [_at(value, w) for w in wanted] if name in {"in", "nin"} else _at(value, wanted)
    return bool(OPERATORS[name](value, wanted))


def _at(value: datetime, wanted: datetime | timedelta) -> datetime:
    """A duration counts from now; a moment without a zone is UTC."""
    if isinstance(wanted, timedelta):
        return datetime.now(value.tzinfo) + wanted
    return wanted if wanted.tzinfo else wanted.replace(tzinfo=value.tzinfo)


def _holds(values: Sequence[Any], name: str, condition: Any, *, viewer: object) -> bool:
    """A collection: what is asked of it without `every` is asked of some."""
    if name == "length":
        return matches(len(values), condition, viewer=viewer)
    if name in {"some", "every"}:
        each = (matches(value, condition, viewer=viewer) for value in values)
        return all(each) if name == "every" else any(each)
    return any(_fits(value, name, condition, viewer=viewer) for value in values)
