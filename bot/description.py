"""The pull request's description: pure."""

import re

from bot.progress import View
from bot.store.rows import TaskRow

MAX_PART = 8000
_LIVE = re.compile(r"@|<(?=[A-Za-z!/?])|!(?=\[)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def description(task: TaskRow, view: View) -> str:
    """What was asked, by whom, where, and how it was checked. Words of others call nobody and load nothing."""
    asked = f"[this conversation]({task.link})" if task.link else f"`{task.conversation.key}`"
    quoted = "\n".join(f"> {line}" for line in defused(task.prompt[:MAX_PART]).splitlines())
    checks = "\n".join(f"- `{c.title.replace('`', '')}`: {c.state}" for c in view.checks)
    parts = [
        _closed(defused(view.said[:MAX_PART])),
        f"Asked by {defused(task.requester_name)} in {asked}:\n\n{quoted}",
        f"Checks:\n{checks[:MAX_PART]}" if checks else "",
        f"Errand task `{task.id}`, agent `{view.agent}`, policy `{task.policy_hash[:12]}`.",
    ]
    return "\n\n".join(part for part in parts if part)


def defused(text: str) -> str:
    """No mention, no HTML, no image: those could notify people, hide words, or tell somebody who reads."""
    return _LIVE.sub("\\g<0>\u200b", text)


def _closed(text: str) -> str:
    """With an end to a code block that is still open: it would swallow what comes after."""
    fence = ""
    for line in text.splitlines():
        found = _FENCE.fullmatch(line)
        if found is None:
            continue
        mark, rest = found[1], found[2].strip()
        if not fence:
            fence = mark
        elif mark.startswith(fence) and not rest:
            fence = ""
    return f"{text}\n{fence}" if fence else text
