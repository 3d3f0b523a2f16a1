"""What the programs in the containers refuse, by what is done about it.

InsideError
├── HelloError        the first bytes of a connection are no acceptable ClientHello: close it
├── HeadError         a request head is not what the grammar allows: answer with `status`
├── BodyError         a request body breaks its own framing: close the connection
├── EgressDeniedError policy or an address check says no: say so and close
├── UpstreamError     a server's answer cannot be passed on: say so to the client
├── RecipeError       a request to the script agent holds no recipe that can run: tell the person
├── RpcError          the script agent answers a request with this error
├── GitReadError      git could not read what was asked for: refuse the push
└── CertificateError  the run has no certificates of its own: the gateway does not open
"""


class InsideError(Exception):
    """Root of the errors inside the containers."""


class HelloError(InsideError):
    """The sentence says which rule the ClientHello breaks."""


class HeadError(InsideError):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class BodyError(InsideError):
    """The sentence says how the framing is broken."""


class EgressDeniedError(InsideError):
    def __init__(self, reason: str, *, rule: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.rule = rule


class UpstreamError(InsideError):
    """The sentence is for the client."""

    def __init__(self, reason: str, *, silent: bool = False) -> None:
        super().__init__(reason)
        self.silent = silent
        """The server said nothing at all, and may not have seen the request."""


class RecipeError(InsideError):
    """The sentence is for the person who asked."""


class RpcError(InsideError):
    def __init__(self, code: int, message: str, tail: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.tail = tail
        """The end of a command's output."""


class GitReadError(InsideError):
    def __init__(self, command: str, detail: str) -> None:
        super().__init__(f"git {command} failed: {detail}")
        self.command = command
        self.detail = detail


class CertificateError(InsideError):
    """The sentence says why."""
