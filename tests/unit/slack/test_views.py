"""Forms and pages are within Slack's limits, whatever they are filled with."""

from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.channel import Conversation, FileChange, Step, StepState
from integrations.front import Details, Errand, House, Offer, Question
from integrations.slack.blocks import plain_line
from integrations.slack.commands import whisper
from integrations.slack.interactions import Origin
from integrations.slack.panes import prompts
from integrations.slack.views import (
    details_view,
    errand_blocks,
    home_view,
    no_details_view,
    settings_form,
    start_form,
    suggestions,
)
from integrations.wording import file_lines
from tests.support.slack_limits import problem_of_message, problem_of_view, texts_in

LONG = 40_000
HOSTILE = st.sampled_from(
    [
        "<!channel> " * (LONG // 11), "😀" * LONG, "`" * LONG, "\u202e\u05d0\u05d1" * (LONG // 3), "&<>" * (LONG // 3),
        "", " \n ", "@here", "*_~`<https://a|b>`~_*", "xoxb-" + "1" * 40,
    ]
) | st.text(max_size=60)  # fmt: skip
HERE = Conversation(channel="slack", team="T0ACME", place="C0WEB", thread="1732104000.000100")
ORIGIN = Origin(
    team="T0ACME", place="C0WEB", thread="1732104000.000100", message="1732104000.000100"
)
REPO = st.from_regex(r"[a-z]{1,39}/[a-zA-Z0-9._-]{1,100}", fullmatch=True)
REPOS = st.lists(REPO, max_size=5, unique=True) | st.integers(6, 260).map(lambda n: [f"acme/r{i}" for i in range(n)])  # fmt: skip
ERRAND = st.builds(
    Errand, conversation=st.just(HERE), title=HOSTILE, repo=HOSTILE, state=HOSTILE, live=st.booleans(),
    link=st.sampled_from(["", "https://acme.example/x"]), pull_url=st.sampled_from(["", "javascript:x", "https://x/1"]),
    seconds=st.none() | st.integers(0, 10**6), cost_usd=st.none() | st.floats(0, 100),
)  # fmt: skip
STEPS = st.lists(st.builds(Step, title=HOSTILE, state=st.sampled_from(StepState)), max_size=200).map(tuple)  # fmt: skip
HOSTS = st.lists(HOSTILE, max_size=60).map(tuple)
LINES = st.none() | st.integers(0, 10**7)
CHANGED = st.lists(
    st.builds(FileChange, path=HOSTILE, added=LINES, removed=LINES), max_size=60
).map(tuple)
DETAILS = st.builds(
    Details, errand=ERRAND, asked_by=HOSTILE, agent=HOSTILE, branch=HOSTILE, reason=HOSTILE, steps=STEPS,
    allowed=HOSTS, denied=HOSTS, said=HOSTILE, changes=HOSTILE, files=st.integers(0, 500), changed=CHANGED,
    url=st.sampled_from(["", "http://127.0.0.1/t"]),
)  # fmt: skip
OFFER = st.builds(
    Offer, repos=REPOS.map(tuple), agents=st.lists(REPO, max_size=3, unique=True).map(tuple),
    default=st.sampled_from(["", "acme/r1"]), may_set=st.booleans(),
)  # fmt: skip
HOUSE = st.builds(
    House, operators=HOSTS, reaches=st.lists(st.tuples(HOSTILE, HOSTS), max_size=30).map(tuple)
)
FEW = settings(max_examples=40, deadline=None)


def is_harmless(view: dict[str, object]) -> bool:
    shown = list(texts_in(view["blocks"]))
    return not any(bad in text for text in shown for bad in ("<!", "@here", "xoxb-1", "\u202e"))


@FEW
@given(details=DETAILS)
def test_details(details: Details) -> None:
    view = details_view(details)
    assert problem_of_view(view) is None
    assert is_harmless(view)


def test_changed_files_are_named_and_what_is_left_out_is_said() -> None:
    errand = Errand(conversation=HERE, title="Fix", repo="acme/web", state="done", live=False)
    changed = (
        FileChange(path="src/login.ts", added=14, removed=3),
        FileChange(path="logo.png", added=None, removed=None),
    )
    details = Details(errand=errand, asked_by="", changes="40 files", files=40, changed=changed)
    shown = "\n".join(texts_in(details_view(details)["blocks"]))
    lines = file_lines(changed[0])
    expected = f"*Changes*\n40 files\n`src/login.ts` {lines}\n`logo.png` binary\n… 38 more"
    assert expected in shown


@FEW
@given(offer=OFFER, text=HOSTILE, anywhere=st.booleans())
def test_the_form(offer: Offer, *, text: str, anywhere: bool) -> None:
    assert problem_of_view(start_form(offer, origin=ORIGIN, text=text, anywhere=anywhere)) is None
    assert problem_of_view(settings_form(offer, origin=ORIGIN)) is None
    assert len(suggestions(offer, "")) <= 100
    assert all(len(p["title"]) <= 75 for p in prompts(offer))


@FEW
@given(
    errands=st.lists(ERRAND, max_size=20),
    asked=st.lists(st.builds(Question, conversation=st.just(HERE), text=HOSTILE), max_size=20),
    offer=OFFER,
    house=HOUSE,
)
def test_home(errands: list[Errand], asked: list[Question], offer: Offer, house: House) -> None:
    view = home_view(errands, asked, offer, house)
    assert problem_of_view(view) is None
    assert is_harmless(view)


@FEW
@given(errands=st.lists(ERRAND, max_size=20))
def test_a_list(errands: list[Errand]) -> None:
    answer = whisper(["x"], errand_blocks(errands, empty="none"))
    assert problem_of_message(answer["text"], answer["blocks"]) is None


def test_no_details() -> None:
    assert problem_of_view(no_details_view()) is None


@given(text=HOSTILE, limit=st.integers(2, 200))
def test_a_plain_line_is_never_too_long(text: str, limit: int) -> None:
    line = plain_line(text, limit)
    assert 1 <= len(line.encode("utf-16-le")) // 2 <= limit
    assert "\n" not in line
