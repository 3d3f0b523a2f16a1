"""How to use it, in words that every channel shows."""

HELP = (
    "Mention me with what should be done, and where if it isn't clear: `owner/name fix the flaky login test`. "
    "I answer in this thread and end with a pull request.\n"
    "Reply here to steer, or to go on after the end. `stop` ends the work and keeps on its branch what there is (once more: at once, without keeping), `status` tells how far it is, "
    "`retry` runs it again; after `mute` only mentions count here, until `unmute`. An edit of your request is a correction.\n"
    "Options: `repo=owner/name`, `branch=team/name`, `agent=name`, `model=name`."
)
