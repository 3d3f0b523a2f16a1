"""Addresses of messages: pure."""

from integrations.slack.identity import Identity


def permalink(bot: Identity, *, place: str, ts: str, thread: str = "") -> str:
    """Empty where the workspace's address is unknown."""
    if not bot.url:
        return ""
    link = f"{bot.url}archives/{place}/p{ts.replace('.', '')}"
    return f"{link}?thread_ts={thread}&cid={place}" if thread and thread != ts else link
