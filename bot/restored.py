"""What a restored database must remember: that it may not know of everything it once did."""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store import cursors

GENERATION: Final = "restored"
"""How often the database was restored from a copy."""
FENCES: Final = 1_000
"""Between two generations: more runs than a task has in one, so that no run's number is ever given twice."""


async def lowest_fence(tx: AsyncConnection) -> int:
    """The lowest number that a new run may have."""
    return await _generation(tx) * FENCES + 1


async def note_restored(tx: AsyncConnection) -> int:
    """A new generation begins; its number."""
    generation = await _generation(tx) + 1
    await cursors.put(tx, GENERATION, str(generation))
    return generation


async def _generation(tx: AsyncConnection) -> int:
    return int(await cursors.get(tx, GENERATION) or 0)
