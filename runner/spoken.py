"""Chunks of what an agent says, put together to whole messages."""

from dataclasses import dataclass, field
from typing import Final

from runner.protocol import Said

SAID_CHARACTERS: Final = 12_000


@dataclass(slots=True)
class Words:
    """Chunks of one message of the agent."""

    parts: list[str] = field(default_factory=list)
    size: int = 0
    message_id: str | None = None

    def add(self, text: str) -> None:
        if self.size <= SAID_CHARACTERS:
            self.parts.append(text[: SAID_CHARACTERS + 1 - self.size])
        self.size += len(text)

    def take(self) -> list[Said]:
        text = "".join(self.parts).strip()
        self.parts, self.size, self.message_id = [], 0, None
        if len(text) > SAID_CHARACTERS:
            text = text[: SAID_CHARACTERS - 1] + "…"
        return [Said(text=text)] if text else []
