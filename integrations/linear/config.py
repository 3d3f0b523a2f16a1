"""What Linear needs to be told, and what the Linear app needs to be allowed."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from integrations.addresses import safe_for_a_token

POLL_SECONDS = 30.0
CATCH_UP_SECONDS = 300.0
"""Between two questions for what webhooks have missed."""


class LinearConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    client_id: str = Field(min_length=1)
    """Client ID of the app, from Settings, API, OAuth applications."""
    client_secret: SecretStr = Field(min_length=1)
    """Client secret of the same app."""
    webhook_secret: SecretStr | None = Field(default=None, min_length=1)
    """Signing secret of the app's webhook: without one Linear is asked for all that is new."""
    mode: Literal["oauth", "client_credentials"] = "oauth"
    """`oauth`: an admin installs the app by a link, in one or several workspaces. `client_credentials`: the workspace
    that owns the app, without a link."""
    polling: bool | Annotated[float, Field(ge=5, le=3600)] | None = None
    """Ask Linear for what is new, or for what webhooks have missed: at the start, and again after so many seconds.

    Nothing: 30, or 300 beside a webhook. True: 30. False, beside a webhook: never.
    """
    repository_host: str = Field(default="github.com", pattern=r"^[A-Za-z0-9.-]{1,253}$")
    """Where the repositories live: Linear's guess at the right one wants to know."""
    api_url: str = "https://api.linear.app"
    """Address of the API; another one only for tests."""
    authorize_url: str = "https://linear.app/oauth/authorize"
    """Where an admin agrees to the installation; another one only for tests."""

    @field_validator("api_url", "authorize_url")
    @classmethod
    def _safe_for_a_token(cls, url: str) -> str:
        return safe_for_a_token(url)

    @model_validator(mode="after")
    def _can_receive(self) -> Self:
        if self.webhook_secret is None and self.polling is False:
            raise ValueError(
                "set webhook_secret, or polling=true: without one of them nothing that happens in"
                " Linear can reach Errand"
            )
        return self

    @property
    def poll_seconds(self) -> float | None:
        """How long between two questions for news; None: what webhooks miss stays missed."""
        if self.polling is None:
            return POLL_SECONDS if self.webhook_secret is None else CATCH_UP_SECONDS
        if isinstance(self.polling, bool):
            return POLL_SECONDS if self.polling else None
        return self.polling


SCOPES = {
    "read": "read the ticket, its comments and what blocks it",
    "write": "answer, show the plan, link the pull request, move the ticket",
    "app:assignable": "have tickets delegated to it",
    "app:mentionable": "be mentioned in comments",
}
"""The app's permissions, each with the reason."""

EVENTS = {
    "Agent session events": "somebody delegates a ticket, mentions the app, answers or stops it",
    "Inbox notifications": "a ticket is taken back, cancelled or done; a 🛑 reaction",
    "Permission changes": "teams are opened or closed to the app",
    "Issues": "a label or state is set that a policy takes as a request",
}
"""What the app's webhook subscribes to, each with the reason."""
