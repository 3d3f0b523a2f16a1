"""Linear's rate limits: what a document costs, two leaky buckets, and the headers that tell of them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
    is_leaf_type,
)

from tests.support.linear.paging import DEFAULT

MOST_POINTS: Final = 10_000
_PROPERTY, _OBJECT = 0.1, 1.0
_PERIOD_SECONDS: Final = 3600


@dataclass(slots=True, kw_only=True)
class Bucket:
    """It leaks evenly: empty again an hour after it was full."""

    limit: float
    used: float = 0
    at: float = field(default_factory=time.time)

    @property
    def remaining(self) -> float:
        self._leak()
        return max(0.0, self.limit - self.used)

    @property
    def reset(self) -> int:
        """When all of it is there again: UTC, milliseconds."""
        self._leak()
        return int((self.at + self.used / self.limit * _PERIOD_SECONDS) * 1000)

    def take(self, amount: float) -> None:
        self._leak()
        self.used += amount

    def _leak(self) -> None:
        now = time.time()
        self.used = max(0.0, self.used - (now - self.at) * self.limit / _PERIOD_SECONDS)
        self.at = now


@dataclass(slots=True)
class Limits:
    """Tests set `requests.used` to come close to the limit."""

    requests: Bucket = field(default_factory=lambda: Bucket(limit=5_000))
    complexity: Bucket = field(default_factory=lambda: Bucket(limit=2_000_000))

    def exceeded(self, points: float) -> str | None:
        """Which limit a request would break."""
        if self.requests.remaining < 1:
            return "requests"
        return "complexity" if self.complexity.remaining < points else None

    def spend(self, points: float) -> None:
        self.requests.take(1)
        self.complexity.take(points)

    def headers(self, points: float) -> dict[str, str]:
        headers = {"X-Complexity": str(round(points))}
        for name, bucket in (("Requests", self.requests), ("Complexity", self.complexity)):
            headers |= {
                f"X-RateLimit-{name}-Limit": str(round(bucket.limit)),
                f"X-RateLimit-{name}-Remaining": str(int(bucket.remaining)),
                f"X-RateLimit-{name}-Reset": str(bucket.reset),
            }
        return headers

    def status(self) -> list[dict[str, Any]]:
        """For `rateLimitStatus`."""
        return [
            {
                "type": name, "allowed_amount": bucket.limit, "requested_amount": bucket.used,
                "remaining_amount": bucket.remaining, "period": _PERIOD_SECONDS * 1000,
                "reset": bucket.reset,
            }
            for name, bucket in (("requests", self.requests), ("complexity", self.complexity))
        ]  # fmt: skip


def complexity(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode,
    variables: Mapping[str, Any],
) -> float:  # fmt: skip
    """A property 0.1, an object 1, a connection its content times `first` (50 where it is not given)."""
    fragments = {
        d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)
    }

    def of(selections: SelectionSetNode | None, parent: Any) -> float:
        return sum(one(s, parent) for s in (selections.selections if selections else ()))

    def one(selection: Any, parent: Any) -> float:
        if isinstance(selection, InlineFragmentNode):
            condition = selection.type_condition
            return of(
                selection.selection_set,
                schema.type_map[condition.name.value] if condition else parent,
            )
        if not isinstance(selection, FieldNode):
            fragment = fragments[selection.name.value]
            return of(fragment.selection_set, schema.type_map[fragment.type_condition.name.value])
        found = getattr(parent, "fields", {}).get(selection.name.value)
        if found is None or is_leaf_type(kind := get_named_type(found.type)):
            return _PROPERTY
        inside = of(selection.selection_set, kind)
        times = _first(selection, variables) if "first" in found.args else None
        return _OBJECT + inside if times is None else times * inside

    root = schema.get_root_type(operation.operation)
    return of(operation.selection_set, root)


def _first(selection: FieldNode, variables: Mapping[str, Any]) -> int:
    for argument in selection.arguments or ():
        if argument.name.value in {"first", "last"}:
            value = argument.value
            if isinstance(value, IntValueNode):
                return int(value.value)
            if isinstance(value, VariableNode):
                return int(variables.get(value.name.value) or DEFAULT)
    return DEFAULT
