"""What Slack needs to be told, and what the Slack app needs to be allowed."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class SlackConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bot_token: SecretStr = Field(min_length=1)
    """Bot User OAuth Token (`xoxb-…`), from OAuth & Permissions."""
    signing_secret: SecretStr | None = Field(default=None, min_length=1)
    """Signing Secret, from Basic Information: for events over HTTP."""
    app_token: SecretStr | None = Field(default=None, min_length=1)
    """App-level token (`xapp-…`) with `connections:write`: for Socket Mode, without an inbound port."""
    bots: tuple[str, ...] = ()
    """Other bots that are heard, by their user ids, as a JSON list. What they may is for the policy, by name."""
    api_url: str = "https://slack.com/api/"
    """Address of the Web API; another one only for tests."""

    @model_validator(mode="after")
    def _can_receive(self) -> Self:
        if self.signing_secret is None and self.app_token is None:
            raise ValueError(
                "set app_token (Socket Mode, no inbound port) or signing_secret (events over HTTP):"
                " without one of them nothing said in Slack can reach Errand"
            )
        return self


SCOPES = {
    "app_mentions:read": "hear a mention in a channel",
    "channels:history": "hear replies in threads of public channels, find our own messages there",
    "chat:write": "answer, and edit the card",
    "groups:history": "the same in private channels it was invited to",
    "im:history": "hear direct messages, find our own messages there",
    "mpim:history": "the same in group direct messages it was added to",
    "reactions:write": "mark a request 👀 🏁 ❌ 🛑",
    "users:read": "name who asked, in the pull request",
}
"""The bot's permissions, each with the reason: `manifest.yml` asks for exactly these."""

EVENTS = {
    "app_mention": "somebody mentions the bot",
    "message.channels": "replies in threads of public channels",
    "message.groups": "replies in threads of private channels",
    "message.im": "direct messages",
    "message.mpim": "replies in threads of group direct messages",
}
"""The events subscribed to, each with the reason: `manifest.yml` names exactly these."""
