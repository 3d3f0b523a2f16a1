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

    def wrote(self, *, user: str, bot_id: str) -> bool:
        """Is a message by them ours?"""
        return user == self.user_id or (bool(self.bot_id) and bot_id == self.bot_id)
