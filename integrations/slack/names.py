"""The names that our buttons, fields and forms have in Slack."""

from typing import Final

COMMAND: Final = "/errand"
HAND_OVER: Final = "hand_to_errand"
"""The message shortcut."""
NEW: Final = "new_errand"
"""The global shortcut, and the button of App Home."""

SAY_ONCE: Final = "say_once"
"""Begins the id of a button whose value is words that mean nothing when said a second time."""
SAY: Final = "say"
"""Begins the id of a button whose value is words that count each time."""
CHOOSE: Final = "choose"
DETAILS: Final = "details"
RATE: Final = "rate"
LINK: Final = "open"
STOP_THERE: Final = "stop_there"
"""Stops the errand of another conversation: its value says which."""

START_FORM: Final = "start"
SETTINGS_FORM: Final = "settings"
REPO: Final = "repo"
AGENT: Final = "agent"
REQUEST: Final = "request"
PLACE: Final = "place"
NONE: Final = "-"
"""The option that stands for none."""
