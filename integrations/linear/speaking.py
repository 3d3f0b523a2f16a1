"""Something is said in a session; and where Linear refuses it for good, that much in words that it can't mind."""

from typing import Any
from typing import Final as Constant

import structlog

from integrations.channel import Final, Notice, Question
from integrations.errors import AuthError, RejectedError
from integrations.linear.api import Api
from integrations.linear.ids import made_from
from integrations.linear.markup import code, is_web, link
from integrations.linear.render import Content
from integrations.wording import outcome, pull_words

log = structlog.get_logger()

REFUSED: Constant = (
    "Linear did not take what I have to say here; it is on this errand's page, and in the log."
)
MAX_OPTIONS: Constant = 20


# Any: an activity is JSON.
async def speak(
    api: Api, team: str, activity: dict[str, Any], reply: Notice | Question | Final
) -> None:
    """Say it once, however often. A session in which nothing is said would look at work for ever."""
    try:
        await api.act(team, activity)
    except AuthError:
        raise
    except RejectedError as error:
        session = activity["agentSessionId"]
        log.warning("linear_words_refused", session=session, error=str(error))
        plain = {
            "id": made_from(str(activity["id"]), "plain"),
            "agentSessionId": session,
            "content": plainly(reply, kind=activity["content"]["type"]),
        }
        await api.act(team, plain)


def plainly(reply: Notice | Question | Final, *, kind: str) -> Content:
    """What of a reply can't be left out, without a word of anybody else's: pure."""
    parts = [REFUSED]
    if isinstance(reply, Question) and reply.options:
        options = [code(option.words, 250) for option in reply.options[:MAX_OPTIONS]]
        parts = [f"Which of these? {', '.join(options)}"]
    elif isinstance(reply, Final):
        shown = link(pull_words(reply), reply.pull_url) if is_web(reply.pull_url) else ""
        parts = [f"**{outcome(reply)}**", REFUSED, shown]
    return {"type": kind, "body": "\n\n".join(part for part in parts if part)}
