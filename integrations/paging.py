"""Lists that a service gives page by page."""

from integrations.errors import UnavailableError


def onward(cursor: str, seen: set[str], *, service: str) -> str:
    """The cursor of the next page, and it is in `seen` from then on.

    Raises:
        UnavailableError: it was given before: whoever leads in a circle would be followed for ever.
    """
    if cursor in seen:
        raise UnavailableError(service, "its pages lead in a circle")
    seen.add(cursor)
    return cursor
