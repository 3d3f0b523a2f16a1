"""Connections as Linear gives them: newest first, fifty at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from typing_extensions import TypedDict

from tests.support.linear.errors import invalid

DEFAULT, MOST = 50, 250


class Entity(Protocol):
    id: str
    created_at: datetime
    updated_at: datetime


EntityT = TypeVar("EntityT", bound=Entity)


class Page(TypedDict, total=False):
    """The arguments of every connection."""

    first: int | None
    after: str | None
    last: int | None
    before: str | None
    order_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection(Generic[EntityT]):
    nodes: Sequence[EntityT]
    page_info: PageInfo
    total_count: int


def connection(entities: Sequence[EntityT], page: Page) -> Connection[EntityT]:
    """One page. A cursor is the id of the entity it stands behind."""
    by_update = page.get("order_by") == "updatedAt"
    every = sorted(
        entities, key=lambda e: e.updated_at if by_update else e.created_at, reverse=True
    )
    start, end = _position(every, page.get("after"), 0), len(every)
    if page.get("before"):
        end = _position(every, page.get("before"), 0) - 1
    if page.get("last") is not None:
        start = max(start, end - _size(page.get("last")))
    else:
        end = min(end, start + _size(page.get("first")))
    shown = every[start:end]
    return Connection(
        nodes=shown,
        page_info=PageInfo(
            has_next_page=end < len(every),
            has_previous_page=start > 0,
            start_cursor=shown[0].id if shown else None,
            end_cursor=shown[-1].id if shown else None,
        ),
        total_count=len(every),
    )


def _position(entities: Sequence[Entity], cursor: str | None, default: int) -> int:
    """The index behind the cursor."""
    if cursor is None:
        return default
    ids = [entity.id for entity in entities]
    if cursor not in ids:
        raise invalid(f"Invalid cursor: {cursor}")
    return ids.index(cursor) + 1


def _size(asked: int | None) -> int:
    size = DEFAULT if asked is None else asked
    if not 0 < size <= MOST:
        raise invalid(f"A page has 1 to {MOST} items, not {size}")
    return size
