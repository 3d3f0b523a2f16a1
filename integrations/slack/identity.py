"""Who the bot is in its workspace."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What auth.test told."""

    team_id: str
    user_id: str
    """The bot user: mentions name it."""
    bot_id: str
    """The same bot as the author of its own messages."""
    url: str
    """Address of the workspace, with a slash at the end; empty if unknown."""
    scopes: frozenset[str] | None = None
    """What the token may do, if Slack said so."""
