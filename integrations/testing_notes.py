"""Notes for tests: in memory."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class MemoryNotes:
    """What an adapter remembers, for as long as this object lives; shared, it is two replicas' store."""

    kept: dict[str, str] = field(default_factory=dict)

    async def get(self, name: str) -> str | None:
        return self.kept.get(name)

    async def put(self, name: str, value: str) -> None:
        self.kept[name] = value

    async def swap(self, name: str, old: str | None, new: str | None) -> bool:
        if self.kept.get(name) != old:
            return False
        if new is None:
            self.kept.pop(name, None)
        else:
            self.kept[name] = new
        return True

    async def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self.kept if name.startswith(prefix))
