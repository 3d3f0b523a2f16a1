"""Linear's errors, in its own shape: `message`, and `extensions` that say what to do about it."""

from typing import Any


class LinearError(Exception):
    """An answer in `errors`; graphql-core takes the extensions over."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        kind: str,
        status: int = 400,
        http_status: int = 200,
        user_error: bool = True,
        presentable: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.http_status = http_status
        self.extensions: dict[str, Any] = {
            "type": kind,
            "code": code,
            "statusCode": status,
            "userError": user_error,
            "userPresentableMessage": presentable or message,
        }

    def body(self) -> dict[str, Any]:
        """The whole answer where nothing was executed."""
        return {"errors": [{"message": self.message, "extensions": self.extensions}]}


def not_found(entity: str) -> LinearError:
    return LinearError(
        f"Entity not found: {entity}",
        code="INPUT_ERROR",
        kind="invalid input",
        presentable=f"Could not find referenced {entity}.",
    )


def conflict(entity: str, entity_id: str) -> LinearError:
    """A create with an `id` that is there already."""
    return LinearError(
        f"conflict on insert of {entity}",
        code="INPUT_ERROR",
        kind="invalid input",
        presentable=f"Entity {entity} with id {entity_id} already exists.",
    )


def refused(message: str) -> LinearError:
    """What the input says cannot be done, whoever asks and however often."""
    return LinearError(message, code="INPUT_ERROR", kind="invalid input")


def invalid(message: str) -> LinearError:
    """The input has the wrong shape."""
    return LinearError(
        "Argument Validation Error",
        code="INVALID_INPUT",
        kind="invalid input",
        http_status=400,
        presentable=message,
    )


def forbidden(message: str) -> LinearError:
    return LinearError(message, code="FORBIDDEN", kind="forbidden", status=403)


def unauthenticated() -> LinearError:
    return LinearError(
        "Authentication required, not authenticated",
        code="AUTHENTICATION_ERROR",
        kind="authentication error",
        status=401,
        http_status=401,
        presentable="You need to authenticate to access this operation.",
    )


def rate_limited(what: str = "requests") -> LinearError:
    return LinearError(
        "Rate limit exceeded",
        code="RATELIMITED",
        kind="ratelimited",
        status=429,
        http_status=400,
        presentable=f"Rate limit exceeded: too many {what} per 1 hour.",
    )


def too_complex(points: int) -> LinearError:
    return LinearError(
        "Query too complex",
        code="INPUT_ERROR",
        kind="invalid input",
        http_status=400,
        presentable=f"The query's complexity of {points} is above the maximum of 10000.",
    )


def ungraphql(message: str) -> LinearError:
    """The document does not fit the schema."""
    return LinearError(
        message, code="GRAPHQL_VALIDATION_FAILED", kind="graphql error", http_status=400
    )
