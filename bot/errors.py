"""What can go wrong in the conversation and the wiring, by who can act on it.

BotError
├── SettingsError     the environment or `.env` is wrong: the operator; names the variable
└── SetupError        something on this machine is missing: the operator; says what to do
    └── NoRedisError  no Redis could be found or started
"""


class BotError(Exception):
    """Root of this room's errors."""


class SettingsError(BotError):
    """A setting is unknown, missing or of the wrong kind."""


class SetupError(BotError):
    """Something that Errand needs is not there."""


class NoRedisError(SetupError):
    """Neither a URL, nor the embedded server, nor one on PATH."""
