"""What a delivery from Slack left out: who said it, what stands around it, a message to answer."""

from datetime import UTC, datetime, timedelta

import structlog

from integrations.channel import Inbound
from integrations.errors import IntegrationError, RejectedError
from integrations.pictures import Pictures
from integrations.slack.client import SlackClient
from integrations.slack.context import background, said_before
from integrations.slack.files import pictures_of, texts_of
from integrations.slack.identity import Identity
from integrations.slack.interactions import Note
from integrations.slack.links import permalink
from integrations.slack.messages import Message
from integrations.slack.mrkdwn import mentions, plain, without_mention
from integrations.slack.render import Rendered, render_request

log = structlog.get_logger()

OPENED_WITHIN = timedelta(days=1)
"""How far back an opening that may have been posted is looked for."""
CLOSED = frozenset(
    {
        "access_denied",
        "cant_post_message",
        "channel_not_found",
        "is_archived",
        "no_permission",
        "not_in_channel",
        "restricted_action",
        "restricted_action_read_only_channel",
        "thread_not_found",
    }
)
"""Where we can't speak: the answer goes to who asked, directly."""


async def completed(
    client: SlackClient, inbound: Inbound, pictures: Pictures | None = None
) -> Inbound:
    """Safe twice: what it posts it looks for first."""
    user = inbound.author.removeprefix("slack:")
    bot = await client.identity()
    if inbound.standing == "unknown":
        person = await client.person(user)
        known = {"standing": person.standing, "author_name": person.name}
        inbound = inbound.model_copy(update=known)
    match inbound.note:
        case Note.ROOT:
            return await _begun(client, bot, inbound, user)
        case Note.REACTION:
            return await _reacted(client, bot, inbound, pictures)
        case Note.THREAD | Note.ALONE:
            return await _around_or_apart(client, bot, inbound, user, pictures)
        case _:
            return inbound


async def _begun(client: SlackClient, bot: Identity, inbound: Inbound, user: str) -> Inbound:
    """Post what was asked for, so that there is a thread to work in."""
    message = render_request(user, inbound.text)
    place = inbound.conversation.place
    ts = None
    if place != user:  # that stands for direct messages with them
        ts = await _posted(client, bot, place, message, inbound.event_id)
    if ts is None:
        place = await client.direct(user)
        ts = await post_once(client, bot, place=place, message=message, key=inbound.event_id)
    conversation = inbound.conversation.model_copy(update={"place": place, "thread": ts})
    return inbound.model_copy(
        update={
            "conversation": conversation,
            "message_id": ts,
            "link": permalink(bot, place=place, ts=ts),
        }
    )


async def _posted(
    client: SlackClient, bot: Identity, place: str, message: Rendered, key: str
) -> str | None:
    """None where we can't speak."""
    try:
        return await post_once(client, bot, place=place, message=message, key=key)
    except RejectedError as error:
        if error.code not in CLOSED:
            raise
    return None


async def post_once(
    client: SlackClient, bot: Identity, *, place: str, message: Rendered, key: str
) -> str:
    """The message's ts, whether it is posted now or was before."""
    oldest = (datetime.now(UTC) - OPENED_WITHIN).timestamp()
    async for posted in client.history(channel=place, oldest=oldest):
        if posted.key == key and bot.wrote(user=posted.user, bot_id=posted.bot_id):
            return posted.ts
    return await client.post(
        channel=place, thread="", text=message.text, blocks=message.blocks, key=key
    )


async def _reacted(
    client: SlackClient, bot: Identity, inbound: Inbound, pictures: Pictures | None
) -> Inbound:
    """A reaction knows its message only: the thread is that message's, and so are the words of a request."""
    message = await client.message(channel=inbound.conversation.place, ts=inbound.message_id)
    if message is None:
        return inbound
    about_us = mentions(message.text, bot.user_id) or message.ts == message.thread
    if (
        inbound.text == "stop"
        and not about_us
        and not bot.wrote(user=message.user, bot_id=message.bot_id)
    ):
        return inbound.model_copy(update={"text": ""})
    conversation = inbound.conversation.model_copy(update={"thread": message.thread})
    changes: dict[str, object] = {"conversation": conversation}
    if inbound.happening == "triggered":
        changes["text"] = plain(without_mention(message.text, bot.user_id)).strip()
        changes["link"] = permalink(
            bot, place=conversation.place, ts=message.ts, thread=message.thread
        )
    return await _told_around(client, bot, inbound.model_copy(update=changes), pictures)


async def _around_or_apart(
    client: SlackClient, bot: Identity, inbound: Inbound, user: str, pictures: Pictures | None
) -> Inbound:
    """A shortcut works where the bot is no member: then it goes on in direct messages."""
    try:
        return await _told_around(client, bot, inbound, pictures)
    except RejectedError as error:
        if inbound.note != Note.ALONE or error.code not in CLOSED:
            raise
    elsewhere = inbound.conversation.model_copy(update={"place": user, "thread": ""})
    return await _begun(client, bot, inbound.model_copy(update={"conversation": elsewhere}), user)


async def _told_around(
    client: SlackClient, bot: Identity, inbound: Inbound, pictures: Pictures | None
) -> Inbound:
    where, at = inbound.conversation, inbound.message_id
    thread = [m async for m in client.replies(channel=where.place, thread=where.thread)]
    own = next((message for message in thread if message.ts == at), None)
    alone = inbound.note == Note.ALONE
    before = said_before(thread, at=at, bot_user=bot.user_id, alone=alone)
    if not inbound.addressed:
        before = []  # each reply is word to the agent by itself
    names = await _names(client, before, own)
    mine = own.files if own and not alone else ()
    theirs = [file for message in before for file in message.files]
    texts = await texts_of(client, [*theirs, *mine])
    seen = await pictures_of(client, [*mine, *theirs], pictures) if pictures else {}
    text = background(
        before, None if alone else own, names=names, files=texts, pictures=seen.keys()
    )
    return inbound.model_copy(update={"context": text, "pictures": tuple(seen.values())})


async def _names(client: SlackClient, before: list[Message], own: Message | None) -> dict[str, str]:
    """Those that Slack tells; others stay ids."""
    quoted = [q.author for m in [*before, *([own] if own else [])] for q in m.quoted]
    found: dict[str, str] = {}
    for user in dict.fromkeys([*(m.user for m in before), *quoted]):
        try:
            found[user] = await client.name_of(user)
        except IntegrationError as error:
            log.info("slack_name_unknown", error=str(error))
    return found
