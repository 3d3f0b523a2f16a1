"""What people say, edit and react with, over both transports, and what is completed of it."""

from typing import Any

import pytest

from integrations.channel import Conversation, Final, Inbound
from integrations.slack.files import MAX_PICTURES, MAX_PICTURES_BYTES
from tests.contract.slack.conftest import Site
from tests.support.slack_api import Fault
from tests.support.slack_payloads import payload


async def heard(site: Site, raw: dict[str, Any]) -> Inbound:
    answer = await site.line.event(raw)
    assert answer.ok
    return site.stored[-1]


def edited(before: str, after: str, **more: object) -> dict[str, Any]:
    raw = payload("message_changed")
    raw["event"]["message"] |= {"text": after, **more}
    raw["event"]["previous_message"]["text"] = before
    return raw


async def test_an_edit_in_a_thread_is_a_correction_of_what_was_said(site: Site) -> None:
    said = await heard(site, payload("message_thread_reply", text="also bump it"))
    corrected = await heard(site, edited("also bump it", "also bump it to 30"))

    assert (corrected.happening, corrected.text) == ("corrected", "also bump it to 30")
    assert corrected.corrects == said.semantic_key
    assert corrected.semantic_key != said.semantic_key


async def test_a_mention_that_is_edited_in_is_the_request(site: Site) -> None:
    asked = await heard(site, edited("fix it", "<@U0ERRAND> fix it"))
    assert (asked.happening, asked.text, asked.addressed) == ("said", "fix it", True)
    mention = payload("app_mention", ts="1732104060.000200", thread_ts="1732104000.000100")
    assert (await heard(site, mention)).semantic_key == asked.semantic_key


@pytest.mark.parametrize(
    "raw",
    [
        edited("same", "same"),
        edited("a", "b", user="U0ERRAND", bot_id="B0ERRAND"),
        edited("a", "b", bot_id="B0CI"),
        edited("a", "b", edited=None),
        edited("a", "b", thread_ts=None),
    ],
    ids=["unfurled", "our own", "a bot's", "not by hand", "chatter"],
)
async def test_what_is_no_correction_of_ours_is_ignored(site: Site, raw: dict[str, Any]) -> None:
    assert (await site.line.event(raw)).ok
    assert site.stored == []


async def test_a_stop_sign_stops_where_it_is_put(site: Site) -> None:
    root = site.api.say("C0WEB", "<@U0ERRAND> fix it", user="U0DANA")
    card = site.api.say("C0WEB", "working", thread=root, user="U0ERRAND", bot_id="B0ERRAND")
    raw = payload("reaction_added", item={"type": "message", "channel": "C0WEB", "ts": card})
    stop = await site.completed(await heard(site, raw))

    assert (stop.text, stop.pressed, stop.addressed) == ("stop", True, False)
    assert stop.conversation.thread == root


async def test_a_stop_sign_on_somebody_s_remark_stops_nothing(site: Site) -> None:
    root = site.api.say("C0WEB", "<@U0ERRAND> fix it", user="U0DANA")
    remark = site.api.say("C0WEB", "don't deploy today", thread=root, user="U0LEE")
    raw = payload("reaction_added", item={"type": "message", "channel": "C0WEB", "ts": remark})
    assert (await site.completed(await heard(site, raw))).text == ""


async def test_a_reaction_that_the_policy_takes_as_a_request_is_one(site: Site) -> None:
    site.front.triggers = frozenset({"slack:emoji:hammer"})
    root = site.api.say("C0WEB", "the build fails", user="U0LEE")
    raw = payload(
        "reaction_added",
        reaction="hammer",
        item={"type": "message", "channel": "C0WEB", "ts": root},
    )
    asked = await site.completed(await heard(site, raw))

    assert (asked.happening, asked.text, asked.author) == (
        "triggered",
        "the build fails",
        "slack:U0DANA",
    )
    assert asked.topics == ("slack:emoji:hammer",)


@pytest.mark.parametrize(
    "event", [{"reaction": "hammer"}, {"user": "U0ERRAND"}, {"item": {"type": "file"}}]
)
async def test_other_reactions_are_nothing_to_us(site: Site, event: dict[str, object]) -> None:
    assert (await site.line.event(payload("reaction_added", **event))).ok
    assert site.stored == []


async def test_a_request_in_a_thread_brings_what_was_said_there(site: Site) -> None:
    root = site.api.say("C0WEB", "the build <https://ci.example/1|fails>", user="U0LEE")
    site.api.files["ci.log"] = ("text/plain", b"Error: no such host")
    site.api.say(
        "C0WEB", "here is the log", thread=root, user="U0LEE",
        files=[{"id": "F1", "name": "ci.log", "mimetype": "text/plain", "size": 20,
                "url_private_download": site.api.url.replace("/api/", "/files/ci.log")}],
    )  # fmt: skip
    mention = site.api.say("C0WEB", "<@U0ERRAND> fix it", thread=root, user="U0DANA")
    raw = payload("app_mention", ts=mention, thread_ts=root, text="<@U0ERRAND> fix it")
    whole = await site.completed(await heard(site, raw))

    assert whole.text == "fix it"
    for fact in (
        "lee, 20",
        "the build https://ci.example/1",
        "here is the log",
        "Error: no such host",
    ):
        assert fact in whole.context
    assert whole.standing == ""


PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100


class Kept:
    """Where pictures are kept, in memory."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    async def keep_picture(self, content: bytes) -> str:
        self.contents.append(content)
        return f"{len(self.contents):064x}"


def attached(site: Site, name: str, kind: str, content: bytes) -> dict[str, object]:
    site.api.files[name] = (kind, content)
    address = site.api.url.replace("/api/", f"/files/{name}")
    return {"id": name, "name": name, "mimetype": kind, "size": len(content), "url_private_download": address}  # fmt: skip


async def test_pictures_of_a_request_are_kept_for_the_agent(site: Site) -> None:
    kept = Kept()
    site.channel._pictures = kept
    files = [
        attached(site, "a.png", "image/png", PNG),
        attached(site, "b.png", "image/png", b"<svg/>"),
        attached(site, "c.png", "image/png", PNG + b"x" * MAX_PICTURES_BYTES),
        *(attached(site, f"d{n}.gif", "image/gif", b"GIF89a") for n in range(MAX_PICTURES)),
    ]
    root = site.api.say("C0WEB", "<@U0ERRAND> fix it", user="U0DANA", files=files)
    whole = await site.completed(
        await heard(site, payload("app_mention", ts=root, files=[{"id": "F1"}]))
    )

    assert kept.contents == [PNG, *[b"GIF89a"] * (MAX_PICTURES - 1)]
    assert [p.kind for p in whole.pictures] == ["image/png", *["image/gif"] * (MAX_PICTURES - 1)]
    lines = [line for line in whole.context.splitlines() if line.startswith("Attached")]
    assert [("goes along" in line) for line in lines] == [
        True,
        False,
        False,
        True,
        True,
        True,
        False,
    ]


async def test_files_of_elsewhere_are_not_fetched(site: Site) -> None:
    root = site.api.say(
        "C0WEB", "<@U0ERRAND> fix it", user="U0DANA",
        files=[{"id": "F1", "name": "x.txt", "mimetype": "text/plain", "size": 20,
                "url_private_download": "http://192.0.2.1/x.txt"}],
    )  # fmt: skip
    raw = payload("app_mention", ts=root, files=[{"id": "F1"}])
    whole = await site.completed(await heard(site, raw))

    assert "x.txt" in whole.context
    assert "not given here" in whole.context


async def test_a_login_page_is_no_file(site: Site) -> None:
    site.api.files["x.txt"] = ("text/html", b"<html>")
    root = site.api.say(
        "C0WEB", "<@U0ERRAND> fix it", user="U0DANA",
        files=[{"id": "F1", "name": "x.txt", "mimetype": "text/plain", "size": 20,
                "url_private_download": site.api.url.replace("/api/", "/files/x.txt")}],
    )  # fmt: skip
    raw = payload("app_mention", ts=root, files=[{"id": "F1"}])
    assert "not given here" in (await site.completed(await heard(site, raw))).context


@pytest.mark.parametrize(
    ("said", "standing"),
    [
        ({}, ""),
        ({"is_restricted": True}, "guest"),
        ({"is_ultra_restricted": True, "is_restricted": True}, "guest"),
        ({"team_id": "T0OTHER"}, "outsider"),
        ({"is_stranger": True}, "outsider"),
        ({"is_bot": True}, "bot"),
    ],
)
async def test_guests_and_outsiders_are_told_from_members(
    site: Site, said: dict[str, object], standing: str
) -> None:
    site.api.standings["U0DANA"] = said
    assert (await site.completed(await heard(site, payload("app_mention")))).standing == standing


async def test_who_cannot_be_looked_up_stays_unknown(site: Site) -> None:
    site.api.fail("users.info", Fault(status=503))
    asked = await heard(site, payload("app_mention"))
    assert asked.standing == "unknown"


async def test_a_shared_channel_is_known_as_one(site: Site) -> None:
    raw = payload("app_mention")
    raw["is_ext_shared_channel"] = True
    assert (await heard(site, raw)).shared


async def test_a_bot_is_heard_only_if_it_is_listed(site: Site) -> None:
    assert (await site.line.event(payload("app_mention", user="U0CI", bot_id="B0CI"))).ok
    assert site.stored == []
    asked = await heard(site, payload("app_mention", user="U0DEPLOY", bot_id="B0DEPLOY"))
    assert (asked.author, asked.standing) == ("slack:U0DEPLOY", "bot")
    assert (await site.completed(asked)).standing == "bot"


async def test_a_reply_without_a_mention_asks_slack_nothing_but_who_it_is(site: Site) -> None:
    reply = await heard(site, payload("message_thread_reply"))
    site.api.calls.clear()
    await site.completed(reply)
    assert {name for name, _ in site.api.calls} <= {"users.info", "auth.test"}


async def test_output_that_is_too_long_goes_along_as_a_file(site: Site) -> None:
    root = site.api.say("C0WEB", "<@U0ERRAND> fix it", user="U0DANA")
    here = Conversation(channel="slack", team="T0ACME", place="C0WEB", thread=root)
    await site.channel.post(here, Final(outcome="failed", text="no", tail="line\n" * 2000), key="k")

    [upload] = site.api.uploads
    assert upload["thread_ts"] == root
    assert site.api.uploaded.count(b"line") == 2000


async def test_a_file_that_cannot_be_sent_fails_nothing(site: Site) -> None:
    root = site.api.say("C0WEB", "<@U0ERRAND> fix it", user="U0DANA")
    here = Conversation(channel="slack", team="T0ACME", place="C0WEB", thread=root)
    site.api.fail("files.getUploadURLExternal", Fault(code="missing_scope"))
    await site.channel.post(here, Final(outcome="failed", text="no", tail="line\n" * 2000), key="k")
    assert site.api.uploads == []
