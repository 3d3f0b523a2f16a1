"""Which pictures came with the request of a round."""

from collections.abc import Collection, Sequence

from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store import cursors
from bot.store.rows import TaskRow
from integrations.channel import Picture
from runner.pictures import Picture as Given

_NOTE = "pictures:"
_pictures: TypeAdapter[tuple[Given, ...]] = TypeAdapter(tuple[Given, ...])


async def note_pictures(
    tx: AsyncConnection, task: str, round_: int, pictures: Sequence[Picture]
) -> None:
    if pictures:
        given = tuple(Given(name=p.name, kind=p.kind) for p in pictures)
        await cursors.put(tx, _key(task, round_), _pictures.dump_json(given).decode())


async def keep_pictures(tx: AsyncConnection, task: TaskRow) -> None:
    """What is asked for again is shown again: the next round has them too."""
    if (noted := await cursors.get(tx, _key(task.id, task.round))) is not None:
        await cursors.put(tx, _key(task.id, task.round + 1), noted)


async def pictures_of(conn: AsyncConnection, task: TaskRow) -> tuple[Given, ...]:
    """Those of the task's current round."""
    noted = await cursors.get(conn, _key(task.id, task.round))
    return _pictures.validate_json(noted) if noted else ()


async def names_of(conn: AsyncConnection, ids: Collection[str]) -> frozenset[str]:
    """The names of all that came with any round of these tasks."""
    notes = await cursors.starting(conn, _NOTE)
    theirs = [note for of_round, note in notes.items() if of_round.partition(":")[0] in ids]
    return frozenset(one.name for note in theirs for one in _pictures.validate_json(note))


def _key(task: str, round_: int) -> str:
    return f"{_NOTE}{task}:{round_}"
