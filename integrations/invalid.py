"""What to call of what a service said, where it is not as its type promises."""

from pydantic import ValidationError


def invalid_fields(error: ValidationError, *, most: int | None = None) -> str:
    """The paths of the fields that are missing or wrong, without their values; the first so many of them."""
    return ", ".join(".".join(map(str, found["loc"])) for found in error.errors()[:most])
