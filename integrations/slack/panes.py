"""What Slack shows of us beside conversations: App Home, prompts in the agent's pane, what somebody is looking at."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from integrations.channel import Inbound
from integrations.errors import IntegrationError
from integrations.front import Front, Offer
from integrations.slack.client import SlackClient
from integrations.slack.payloads import Id, Read, read
from integrations.slack.views import home_view

log = structlog.get_logger()

REMEMBERED = 10_000
"""People whose view is remembered, in this process: it is a hint, and may be lost."""
ERRANDS = 20
PROMPTS = 4
TITLE = 60


class _Entity(Read):
    type: str = ""
    value: object = None


class _Context(Read):
    entities: tuple[_Entity, ...] = ()


class _Event(Read):
    type: str
    user: Id | None = None
    channel: Id | None = None
    tab: str = ""
    context: _Context = _Context()


class _Authorization(Read):
    user_id: Id | None = None
    is_bot: bool = True


class _Opened(Read):
    event: _Event
    authorizations: tuple[_Authorization, ...] = ()

    @property
    def user(self) -> str | None:
        """Where the event itself does not say who it was, the person it was sent for."""
        people = [a.user_id for a in self.authorizations if not a.is_bot]
        return self.event.user or next(iter(people), None)


@dataclass(slots=True)
class Panes:
    _seen: dict[str, str] = field(default_factory=dict)
    """The channel that somebody looks at, by their id."""

    async def opened(self, client: SlackClient, front: Front, body: Mapping[str, object]) -> None:
        """Best effort: what fails here is shown the next time."""
        opened = read(_Opened, body)
        event, user = opened.event, opened.user
        if user is None:
            return
        try:
            if event.type == "app_context_changed":
                self._look(user, event)
            elif event.tab == "home":
                await self._home(client, front, user)
            elif event.tab == "messages" and event.channel:
                offer = await front.offer(f"slack:{user}", f"slack:{event.channel}")
                await client.suggest(event.channel, prompts(offer))
        except IntegrationError as error:
            log.warning("slack_pane_not_shown", tab=event.tab, error=str(error))

    def seen_from(self, inbound: Inbound) -> Inbound:
        """In direct messages, the channel that somebody looks at says what they mean."""
        user = inbound.author.removeprefix("slack:")
        if not inbound.conversation.place.startswith("D") or user not in self._seen:
            return inbound
        topics = (*inbound.topics, f"slack:{self._seen[user]}")
        return inbound.model_copy(update={"topics": topics})

    def _look(self, user: str, event: _Event) -> None:
        channels = [
            entity.value
            for entity in event.context.entities
            if entity.type.endswith("/channel_id") and isinstance(entity.value, str)
        ]
        self._seen.pop(user, None)
        if channels and channels[0].startswith(("C", "G")):
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen[user] = channels[0]

    async def _home(self, client: SlackClient, front: Front, user: str) -> None:
        person = f"slack:{user}"
        view = home_view(
            await front.errands(person, limit=ERRANDS),
            await front.questions(person),
            await front.offer(person, "slack:*"),
            await front.house(person),
        )
        await client.publish_home(user, view)


def prompts(offer: Offer) -> list[dict[str, str]]:
    """Things to begin with, on the repositories that somebody used last."""
    repos = [repo for repo in (offer.default, *offer.repos) if repo]
    texts = [
        *(("Fix a failing test", f"{repo} find out why the tests fail, and fix it") for repo in repos[:1]),
        *(("Explain a part of the code", f"{repo} explain in the README how to run it") for repo in repos[:1]),
        ("What can you do?", "help"),
    ]  # fmt: skip
    return [{"title": title[:TITLE], "message": message} for title, message in texts[:PROMPTS]]
