"""What Slack needs to be told, and what the Slack app needs to be allowed."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class SlackConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bot_token: SecretStr | None = Field(default=None, min_length=1)
    """Bot User OAuth Token (`xoxb-…`), from OAuth & Permissions: for one workspace."""
    client_id: str = ""
    """Client ID, from Basic Information: for several workspaces, or for tokens that rotate."""
    client_secret: SecretStr | None = Field(default=None, min_length=1)
    """Client Secret, from the same page."""
    teams: tuple[str, ...] = ()
    """The workspaces (`T…`) in which the app may be installed with these, as a JSON list."""
    signing_secret: SecretStr | None = Field(default=None, min_length=1)
    """Signing Secret, from Basic Information: for events over HTTP."""
    app_token: SecretStr | None = Field(default=None, min_length=1)
    """App-level token (`xapp-…`) with `connections:write`: for Socket Mode, without an inbound port."""
    bots: tuple[str, ...] = ()
    """Other bots that are heard, by their user ids, as a JSON list. What they may is for the policy, by name."""
    catch_up_seconds: float = Field(default=300, ge=0, le=3600)
    """How often is looked for what Slack could not deliver, in seconds; 0 for never."""
    history_calls_a_minute: int = Field(default=20, ge=1, le=50)
    """How fast that may go: Slack allows an app of one's own 50, one that is sold outside its Marketplace 1."""
    api_url: str = "https://slack.com/api/"
    """Address of the Web API; another one only for tests."""

    @property
    def many(self) -> bool:
        """Tokens come from installations, and are kept in the database."""
        return bool(self.client_id)

    @model_validator(mode="after")
    def _can_speak(self) -> Self:
        if bool(self.bot_token) == self.many:
            said = "not both" if self.many else "one of these, with what lets events in"
            raise ValueError(
                f"set bot_token (one workspace) or client_id, client_secret and teams (several): {said}"
            )
        if self.many and (self.client_secret is None or not self.teams):
            raise ValueError(
                "client_id needs client_secret, and teams: the ids of the workspaces that may install the app"
            )
        return self

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
    "assistant:write": "be an agent in Slack's own pane: prompts, working, stop",
    "channels:history": "hear replies in threads of public channels, read what was said before a request, find our own messages there",
    "channels:read": "know which public channels it is in, and whether they are shared, to look there for what it missed",
    "chat:write": "answer, and edit the card",
    "commands": "`/errand`, and the two shortcuts",
    "files:read": "read what is attached to a request or to its thread",
    "files:write": "put output that is too long for a message into a file",
    "groups:history": "the same as channels:history in private channels it was invited to",
    "groups:read": "the same as channels:read for private channels",
    "im:history": "hear direct messages, find our own messages there",
    "im:read": "the same for direct messages",
    "im:write": "begin a direct message, where it can't answer in the place of a request",
    "mpim:history": "the same in group direct messages it was added to",
    "mpim:read": "the same as channels:read for those",
    "reactions:read": "🛑 on a message stops; other reactions only where the policy takes them as requests",
    "reactions:write": "mark a request 👀 🏁 ❌ 🛑",
    "users:read": "name people, and tell guests and outsiders from members",
}
"""The bot's permissions, each with the reason: `manifest.yml` asks for exactly these."""

EVENTS = {
    "agent_session_stopped": "the stop button of Slack's own pane",
    "app_context_changed": "which channel somebody looks at while writing a direct message",
    "app_home_opened": "show App Home, suggest what to say",
    "app_mention": "somebody mentions the bot",
    "app_uninstalled": "stop what runs for the workspace, forget its token",
    "message.channels": "replies in threads of public channels, and edits",
    "message.groups": "replies in threads of private channels, and edits",
    "message.im": "direct messages",
    "message.mpim": "replies in threads of group direct messages",
    "reaction_added": "🛑, and reactions that the policy takes as requests",
    "tokens_revoked": "the same, where the bot's token was revoked",
}
"""The events subscribed to, each with the reason: `manifest.yml` names exactly these."""
