"""What a person types, message by message."""

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from bot.threads import in_own_thread

STDIN = 0
FENCE = "```"


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    text: str
    from_terminal: bool
    """False for what comes from a pipe or a file: nobody saw it yet."""


async def typed_messages() -> AsyncIterator[Typed]:
    """Lines of standard input; from one line of ``` to the next is one message."""
    # Unbuffered: the thread may still wait in `readline` when the interpreter takes its buffers down.
    with io.FileIO(STDIN, closefd=False) as raw:
        while text := await in_own_thread(partial(_read_message, raw)):
            yield Typed(text=text, from_terminal=raw.isatty())


def _read_message(raw: io.RawIOBase) -> str:
    """Empty at the end of the input."""
    lines: list[str] = []
    while line := raw.readline().decode(errors="replace"):
        lines.append(line)
        if sum(each.lstrip().startswith(FENCE) for each in lines) % 2 == 0:
            break
    return "".join(lines)
