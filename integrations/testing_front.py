"""A front for tests: it shows what it is given."""

from dataclasses import dataclass, field

from integrations.channel import Conversation
from integrations.front import Details, Errand, House, Offer, Question


@dataclass(slots=True)
class FakeFront:
    manual: str = "Say what should be done."
    tasks: tuple[Errand, ...] = ()
    asked: tuple[Question, ...] = ()
    shown: dict[Conversation, Details] = field(default_factory=dict)
    offers: dict[tuple[str, str], Offer] = field(default_factory=dict)
    """By person and place; `general` for others."""
    general: Offer = field(default_factory=Offer)
    known: House = field(default_factory=House)
    triggers: frozenset[str] = frozenset()
    under_way: tuple[Conversation, ...] = ()
    shut: frozenset[str] = frozenset()
    """Places in which the policy lets nobody do anything."""

    async def errands(self, person: str, *, limit: int) -> tuple[Errand, ...]:
        return self.tasks[:limit]

    async def questions(self, person: str) -> tuple[Question, ...]:
        return self.asked

    async def details(self, conversation: Conversation) -> Details | None:
        return self.shown.get(conversation)

    async def offer(self, person: str, where: str) -> Offer:
        return self.offers.get((person, where), self.general)

    async def house(self, person: str) -> House:
        return self.known

    async def live(self, channel: str) -> tuple[Conversation, ...]:
        return tuple(one for one in self.under_way if one.channel == channel)

    def is_open(self, where: str, *, shared: bool) -> bool:
        return where not in self.shut

    def is_trigger(self, topic: str) -> bool:
        return topic in self.triggers
