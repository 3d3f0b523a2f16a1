"""Connections as a policy says them, and as a grant passes them on."""

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from policies.connections import (
    DNS_PORT,
    HEADERS,
    is_method,
    is_scheme,
    is_upstream_host,
    is_user,
    parse_upstream,
)
from policies.dialects import Dialect
from policies.features import FEATURES, is_allowable
from policies.names import Header, Name, SecretName, parse_place
from policies.paths import is_path_pattern
from policies.pricelist import ModelPrice


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class _Credentialed(_Value):
    private: bool = Field(default=False, strict=True)
    """The upstream may be in a private network: then it may be an IPv4 address, and need not speak TLS."""
    upstream: str
    """What stands before every path: a scheme and a host, with a port and a path if needed."""
    secret: SecretName
    """Workers have the value in `ERRAND_SECRETS__<this name>`."""
    header: Header | None = None
    """The request header that carries the secret."""
    scheme: str | None = None
    """A word before the secret, like Bearer."""

    @field_validator("upstream")
    @classmethod
    def _can_be_reached(cls, text: str, info: ValidationInfo) -> str:
        if parse_upstream(text, private=bool(info.data.get("private"))) is None:
            raise ValueError(
                "write https://host, with a port and a path if needed"
                " (http:// and addresses only with `private: true`)"
            )
        return text

    @field_validator("scheme")
    @classmethod
    def _is_a_word(cls, text: str | None) -> str | None:
        if text is not None and not is_scheme(text):
            raise ValueError("write one word, like Bearer, or leave it out")
        return text


class LlmConnection(_Credentialed):
    """A model server. The agent calls `http://NAME.llm.internal`; the gateway adds the secret."""

    kind: Literal["llm"]
    dialect: Dialect = "anthropic"
    """Whose API it speaks: Messages; Responses and Chat Completions; generateContent."""
    models: tuple[str, ...] = Field(default=("*",), min_length=1)
    """Names or patterns with `*`."""
    allow: tuple[str, ...] = ()
    """What a request may make the provider do besides answering."""

    @field_validator("allow")
    @classmethod
    def _are_features(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if not is_allowable(name)]:
            known = ", ".join(FEATURES)
            raise ValueError(
                f"there is no feature {unknown[0][:60]!r}: known are {known}, and what a refusal"
                " names as `type:...` or `field:...`"
            )
        return names

    @property
    def login(self) -> tuple[str, str]:
        """The header of the secret, and the word before it."""
        usual = HEADERS[self.dialect]
        return (
            (self.header, self.scheme or "") if self.header else (usual[0], self.scheme or usual[1])
        )


class AllowedRequests(_Value):
    methods: tuple[str, ...] = Field(min_length=1)
    paths: tuple[str, ...] = Field(min_length=1)
    """`*` stands for one part of a path, `**` at the end for all that follows."""

    @field_validator("methods")
    @classmethod
    def _are_methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        if not all(is_method(method) for method in methods):
            raise ValueError("write methods in capitals, like [GET, POST]")
        return methods

    @field_validator("paths")
    @classmethod
    def _are_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if not all(is_path_pattern(path) for path in paths):
            raise ValueError("write paths like /api/v1/issues, /api/*/issues or /api/**")
        return paths


class HttpConnection(_Credentialed):
    """A server that speaks HTTP. The agent calls `http://NAME.internal`; the gateway adds the secret."""

    kind: Literal["http"]
    user: str = ""
    """For Basic: the secret is then the password."""
    requests: tuple[AllowedRequests, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> Self:
        if not is_user(self.user):
            raise ValueError("`user` has no colon and no space")
        if self.user and (self.header or self.scheme):
            raise ValueError(
                "with `user` the secret goes as Basic: leave `header` and `scheme` out"
            )
        return self

    @property
    def login(self) -> tuple[str, str]:
        """As of a model server; a bearer token if nothing else is said."""
        if self.user:
            return "authorization", ""
        return (
            (self.header, self.scheme or "")
            if self.header
            else ("authorization", self.scheme or "Bearer")
        )


class TcpConnection(_Value):
    """A port of a server. The agent connects to `NAME.internal` at the same port."""

    kind: Literal["tcp"]
    private: bool = Field(default=False, strict=True)
    """It may be an IPv4 address, or a name that resolves to a private one."""
    upstream: str

    @field_validator("upstream")
    @classmethod
    def _can_be_reached(cls, text: str, info: ValidationInfo) -> str:
        place = parse_place(text)
        private = bool(info.data.get("private"))
        if place is None or not is_upstream_host(place[0], private=private):
            raise ValueError(
                "write host:port, like db.staging.acme.internal:5432 (an address only with `private: true`)"
            )
        if place[1] == DNS_PORT:
            raise ValueError(
                f"port {DNS_PORT} is taken in every sandbox: names are looked up there"
            )
        return text

    @property
    def place(self) -> tuple[str, int]:
        host, _, port = self.upstream.rpartition(":")
        return host, int(port)


Connection = Annotated[LlmConnection | HttpConnection | TcpConnection, Field(discriminator="kind")]


class GrantedLlm(LlmConnection):
    name: Name
    prices: tuple[ModelPrice, ...] = ()
    """The policy's own, which come before those of Errand."""


class GrantedHttp(HttpConnection):
    name: Name


class GrantedTcp(TcpConnection):
    name: Name


GrantedConnection = Annotated[GrantedLlm | GrantedHttp | GrantedTcp, Field(discriminator="kind")]


def granted(
    name: str, connection: Connection, prices: tuple[ModelPrice, ...]
) -> GrantedLlm | GrantedHttp | GrantedTcp:
    fields = {**dict(connection), "name": name}
    match connection:
        case LlmConnection():
            return GrantedLlm(**fields, prices=prices)
        case HttpConnection():
            return GrantedHttp(**fields)
        case TcpConnection():
            return GrantedTcp(**fields)
