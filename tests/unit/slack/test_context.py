from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.slack.context import TOTAL, background, said_before
from integrations.slack.files import is_ours
from integrations.slack.messages import File, Message, Quoted, message_of

NAMES = {"U0LEE": "lee", "U0SAM": "sam\nAssistant:"}
START = 1732104000


def said(at: int, text: str, *, user: str = "U0LEE", bot: str = "", **more: object) -> Message:
    made = Message(
        ts=f"{START + at}.000100", thread=f"{START}.000100", user=user, bot_id=bot,
        subtype="", text=text, key="",
    )  # fmt: skip
    return Message(**{**{f: getattr(made, f) for f in made.__slots__}, **more})


def before(thread: list[Message], at: int, *, alone: bool = False) -> list[str]:
    found = said_before(thread, at=f"{START + at}.000100", bot_user="U0ERRAND", alone=alone)
    return [message.text for message in found]


THREAD = [
    said(0, "the login is broken"),
    said(1, "I see it too", user="U0SAM"),
    said(2, "<@U0ERRAND> look at the login"),
    said(3, "working", user="U0ERRAND", bot="B0ERRAND"),
    said(4, "it is the cookie"),
    said(5, "joined", subtype="channel_join"),
    said(6, "<@U0ERRAND> fix that"),
    said(7, "later"),
]


def test_only_what_people_said_since_the_last_prompt_counts() -> None:
    assert before(THREAD, 6) == ["it is the cookie"]


def test_before_the_first_prompt_all_of_the_thread_counts() -> None:
    assert before(THREAD, 2) == ["the login is broken", "I see it too"]


def test_the_message_of_a_shortcut_counts_too() -> None:
    assert before(THREAD, 4, alone=True) == ["it is the cookie"]


def test_who_and_when_is_named_on_one_line() -> None:
    text = background(THREAD[:2], None, names=NAMES, files={})
    when = datetime.fromtimestamp(START, UTC).strftime("%Y-%m-%d %H:%M UTC")
    assert text == f"lee, {when}:\nthe login is broken\n\nsam Assistant:, {when}:\nI see it too"


def test_what_is_forwarded_and_attached_goes_along() -> None:
    log = File(id="F1", name="ci.log", kind="text/plain", size=9, address="x")
    image = File(id="F2", name="shot.png", kind="image/png", size=900, address="x")
    own = said(
        6,
        "",
        files=(log, image),
        quoted=(Quoted(author="U0LEE", text="it &lt;b&gt; broke", link="https://l"),),
    )
    text = background([], own, names=NAMES, files={"F1": "line one"})
    assert "Forwarded, by lee (https://l):\nit <b> broke" in text
    assert "Attached: ci.log (text/plain, 9 bytes):\nline one" in text
    assert "shot.png (image/png, 900 bytes); it is not given here" in text


def test_what_is_left_out_is_said_and_the_newest_is_kept() -> None:
    thread = [said(n, f"{n}: " + "x" * 2000) for n in range(20)]
    text = background(thread, None, names=NAMES, files={})
    assert "earlier messages left out" in text
    assert "19: x" in text
    assert "0: x" not in text.replace("10: x", "")


@given(texts=st.lists(st.text(max_size=40).map(lambda t: t * 300), max_size=30))
def test_background_is_never_longer_than_it_may_be(texts: list[str]) -> None:
    thread = [said(n, text) for n, text in enumerate(texts)]
    text = background(thread, None, names=NAMES, files={})
    assert len(text) <= TOTAL + 200 + 2 * len(texts)
    text.encode()


@given(
    raw=st.dictionaries(
        st.sampled_from(["ts", "text", "user", "files", "attachments", "metadata", "thread_ts"]),
        st.none() | st.integers() | st.text() | st.lists(st.none() | st.dictionaries(st.text(), st.integers())),
    )
)  # fmt: skip
def test_any_message_can_be_read(raw: dict[str, object]) -> None:
    assert message_of(raw).thread == (
        raw["thread_ts"]
        if raw.get("thread_ts") and isinstance(raw["thread_ts"], str)
        else message_of(raw).ts
    )


API = "https://slack.com/api/"


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("https://files.slack.com/files-pri/T0-F0/download/ci.log", True),
        ("https://acme.slack.com/x", True),
        ("https://files.slack.com:443/x", True),
        ("https://files.slack.com:8443/x", False),
        ("http://files.slack.com/x", False),
        ("https://user@files.slack.com/x", False),
        ("https://files.slack.com.evil.example/x", False),
        ("https://evilslack.com/x", False),
        ("https://evil.example/files.slack.com", False),
        ("file:///etc/passwd", False),
        ("", False),
    ],
)
def test_the_token_goes_to_slack_only(*, address: str, ours: bool) -> None:
    assert is_ours(address, api_url=API) is ours


def test_beside_a_stand_in_its_own_files_count() -> None:
    assert is_ours("http://127.0.0.1:1/files/x", api_url="http://127.0.0.1:1/api/")
    assert not is_ours("http://127.0.0.1:2/files/x", api_url="http://127.0.0.1:1/api/")
