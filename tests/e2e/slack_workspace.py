"""People in a Slack workspace that is the stand-in, and everything they can say, click and see."""

import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.git_server import GitServer
from tests.support.installation import Installation, until
from tests.support.slack_api import BOT_ID, BOT_USER, TEAM, Json, SlackApi
from tests.support.slack_payloads import command, form, signed

CHANNEL = "C0WEB"
PEOPLE = {"dana": "U0DANA1234", "lee": "U0LEE12345", "sam": "U0SAM12345"}
NAMES = {user: name for name, user in PEOPLE.items()} | {BOT_USER: "errand"}
_FORM = "application/x-www-form-urlencoded"
_VARYING = (
    (re.compile(r"\b(?:\d+ h )?(?:\d+ min )?\d+ (?:s|min)\b"), "N s"),
    (re.compile(r"\b01[0-9a-z]{24}\b"), "TASK"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://forge"),
    (re.compile(r"key=[0-9a-f]{32}"), "key=KEY"),
)
_AT = re.compile("@([a-z_]+)")
_EARLIER = r"strftime('%Y-%m-%d %H:%M:%f', \1, '-1 day')"
_A_DAY_OLDER = (
    "UPDATE task SET changed_at = @changed_at, ended_at = @ended_at",
    "UPDATE run SET started_at = @started_at, ended_at = @ended_at",
    "UPDATE inbox SET received_at = @received_at",
    "UPDATE outbox SET created_at = @created_at, next_at = @next_at",
)


@dataclass(slots=True, kw_only=True)
class Workspace:
    errand: Installation
    api: SlackApi
    git: GitServer
    github_url: str
    events: int = 0
    clicks: int = 0
    typed: dict[str, str] = field(default_factory=dict)
    """Texts by ts, for edits."""

    async def say(
        self, who: str, text: str, *, thread: str | None = None, place: str = CHANNEL
    ) -> str:
        ts = self.api.say(place, text, thread=thread, user=PEOPLE[who])
        self.typed[ts] = text
        event = {"type": "message", "user": PEOPLE[who], "text": text, "ts": ts, "channel": place}
        if f"<@{BOT_USER}>" in text and place.startswith("C"):
            event["type"] = "app_mention"
        if thread:
            event["thread_ts"] = thread
        await self._event(event, place)
        return ts

    async def edit(self, who: str, ts: str, text: str, *, thread: str) -> None:
        now = f"{int(ts.partition('.')[0])}.{self.events + 500:06}"
        message = {
            "type": "message",
            "user": PEOPLE[who],
            "text": text,
            "ts": ts,
            "thread_ts": thread,
        }
        await self._event(
            {
                "type": "message", "subtype": "message_changed", "channel": CHANNEL, "hidden": True,
                "message": {**message, "edited": {"user": PEOPLE[who], "ts": now}},
                "previous_message": {**message, "text": self.typed[ts]}, "ts": now, "event_ts": now,
            },
            CHANNEL,
        )  # fmt: skip
        for said in self.api.messages[CHANNEL]:
            if said["ts"] == ts:
                said["text"] = text

    async def react(self, who: str, ts: str, emoji: str) -> None:
        item = {"type": "message", "channel": CHANNEL, "ts": ts}
        event = {"type": "reaction_added", "user": PEOPLE[who], "reaction": emoji, "item": item}
        await self._event({**event, "event_ts": f"{ts}"}, CHANNEL)

    async def click(
        self, who: str, message: Json, action: str, *, value: str | None = None
    ) -> None:
        """Press what a message shows; an error if it shows no such thing."""
        element = self.element(message, action)
        self.clicks += 1
        await self._form(
            {
                "type": "block_actions", "user": {"id": PEOPLE[who], "team_id": TEAM}, "team": {"id": TEAM},
                "container": {"type": "message", "message_ts": message["ts"], "channel_id": CHANNEL,
                              "thread_ts": message["thread_ts"]},
                "trigger_id": f"t{self.clicks}", "channel": {"id": CHANNEL},
                "message": {"ts": message["ts"], "thread_ts": message["thread_ts"], "text": "x"},
                "actions": [{"action_id": element["action_id"], "action_ts": f"{self.clicks}.000000",
                             "value": element.get("value") if value is None else value}],
            }
        )  # fmt: skip

    @staticmethod
    def element(message: Json, action: str) -> dict[str, Any]:
        blocks = message["blocks"]
        assert isinstance(blocks, list)
        elements = [e for b in blocks for e in b.get("elements", []) if isinstance(e, dict)]
        found = [e for e in elements if e.get("action_id") == action or e.get("value") == action]
        assert found, (action, message["text"])
        return dict(found[0])

    async def command(self, who: str, text: str, *, place: str = CHANNEL) -> dict[str, Any]:
        self.clicks += 1
        fields = command(text, user_id=PEOPLE[who], channel_id=place, trigger_id=f"t{self.clicks}")
        answer = await self._post(str(httpx.QueryParams(fields)).encode(), _FORM)
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    async def shortcut(self, who: str, ts: str, *, values: dict[str, str]) -> None:
        """*Hand to Errand* on a message, and its form filled in."""
        self.clicks += 1
        user = {"id": PEOPLE[who], "team_id": TEAM}
        text = next(str(m["text"]) for m in self.api.messages[CHANNEL] if m["ts"] == ts)
        await self._form(
            {
                "type": "message_action", "callback_id": "hand_to_errand", "trigger_id": f"t{self.clicks}",
                "user": user, "team": {"id": TEAM}, "channel": {"id": CHANNEL}, "message_ts": ts,
                "message": {"type": "message", "ts": ts, "text": text, "user": PEOPLE[who]},
            }
        )  # fmt: skip
        await self._submit(user, values)

    async def new_errand(self, who: str, *, values: dict[str, str]) -> None:
        """The global shortcut, and its form filled in."""
        self.clicks += 1
        user = {"id": PEOPLE[who], "team_id": TEAM}
        await self._form(
            {"type": "shortcut", "callback_id": "new_errand", "trigger_id": f"t{self.clicks}",
             "user": user, "team": {"id": TEAM}}
        )  # fmt: skip
        await self._submit(user, values)

    async def _submit(self, user: dict[str, str], values: dict[str, str]) -> None:
        view = self.api.views[-1]
        state = {
            "request": {"request": {"type": "plain_text_input", "value": values["request"]}},
            "repo": {
                "repo": {"type": "static_select", "selected_option": {"value": values["repo"]}}
            },
        }
        if "place" in values:
            state["place"] = {"place": {"type": "x", "selected_conversation": values["place"]}}
        await self._form(
            {
                "type": "view_submission", "user": user, "team": {"id": TEAM},
                "view": {"id": f"V{self.clicks}", "callback_id": view["callback_id"],
                         "private_metadata": view["private_metadata"], "state": {"values": state}},
            }
        )  # fmt: skip

    async def _event(self, event: dict[str, Any], place: str) -> None:
        self.events += 1
        kinds = {"C": "channel", "D": "im"}
        event |= {
            "channel_type": kinds[place[0]],
            "event_ts": event.get("event_ts", event.get("ts")),
        }
        body = {
            "token": "x", "team_id": TEAM, "api_app_id": "A0ERRAND", "event": event,
            "type": "event_callback", "event_id": f"Ev{self.events:08d}", "event_time": int(time.time()),
            "authorizations": [{"team_id": TEAM, "user_id": BOT_USER, "is_bot": True}],
            "is_ext_shared_channel": False,
        }  # fmt: skip
        await self._post(json.dumps(body).encode(), "application/json")

    async def _form(self, payload: dict[str, Any]) -> None:
        await self._post(form(payload), _FORM)

    async def _post(self, body: bytes, kind: str) -> httpx.Response:
        headers = signed(body, at=time.time(), kind=kind)
        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"{self.errand.url}/slack/events", content=body, headers=headers
            )
        assert answer.status_code == 200, answer.text
        return answer

    # What is there to be seen

    async def has_looked_around(self) -> None:
        """`serve` knows since when it listens: what it misses from now on it can look for."""

        async def look() -> bool:
            async with self.errand.store() as store, store.read() as conn:
                names = await conn.execute(sql("SELECT name FROM secret"))
                return any(name.startswith("slack:cursor:") for name in names.scalars())

        await until(look, seconds=20, what="serve has looked around")

    def thread(self, root: str, *, place: str = CHANNEL) -> list[Json]:
        return [m for m in self.api.messages[place] if m["thread_ts"] == root]

    async def sees(self, root: str, *words: str, seconds: float = 60, after: int = 0) -> Json:
        """Wait for a message of the bot with all these words, not among the first `after` of the thread."""

        async def look() -> Json | None:
            ours = [m for m in self.thread(root)[after:] if m.get("bot_id") == BOT_ID]
            return next((m for m in ours if all(w in str(m["text"]) for w in words)), None)

        try:
            return await until(look, seconds=seconds, what=f"a message with {words}")
        except AssertionError as error:
            raise AssertionError(f"{error}; the thread:\n{self.transcript(root)}") from error

    async def settled(self, seconds: float = 20) -> None:
        """Every delivery is dealt with, and everything is said."""

        async def look() -> bool:
            async with self.errand.store() as store, store.read() as conn:
                return not await _unsettled(conn)

        await until(look, seconds=seconds, what="nothing waits to be dealt with or said")

    async def a_day_passes(self) -> None:
        """What there is of tasks and what was said is a day older."""
        async with self.errand.store() as store, store.begin() as tx:
            for statement in _A_DAY_OLDER:
                await tx.execute(sql(_AT.sub(_EARLIER, statement)))

    def transcript(self, root: str) -> str:
        """The thread as people read it, without what differs from run to run."""
        parts = []
        for message in self.thread(root):
            name = NAMES[str(message["user"])]
            marks = " ".join(
                f":{emoji}:" for _, ts, emoji in sorted(self.api.reactions) if ts == message["ts"]
            )
            text = str(message["text"])
            for pattern, instead in _VARYING:
                text = pattern.sub(instead, text)
            labels = [f"[{label}]" for label in _buttons(message)]
            lines = [*text.splitlines(), *([" ".join(labels)] if labels else [])]
            head, *rest = lines or [""]
            mark = f"  {marks}" if marks else ""
            parts.append("\n".join([f"{name:7}{head}{mark}", *(f"{'':7}{line}" for line in rest)]))
        return "\n".join(parts) + "\n"


def _buttons(message: Json) -> list[str]:
    blocks = message.get("blocks") or []
    assert isinstance(blocks, list)
    elements = [e for block in blocks if block["type"] == "actions" for e in block["elements"]]
    return [e["text"]["text"] if "text" in e else e["action_id"] for e in elements]


async def _unsettled(conn: AsyncConnection) -> int:
    query = (
        "SELECT (SELECT count(*) FROM inbox WHERE state IN ('raw', 'new'))"
        " + (SELECT count(*) FROM outbox WHERE state IN ('pending', 'sending'))"
    )
    return int((await conn.execute(sql(query))).scalar_one())
