import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.linear.markup import (
    ZERO_WIDTH,
    code,
    code_block,
    defuse,
    is_web,
    limited,
    link,
    mentions,
    without_mention,
    written,
    written_line,
)

EVIL = st.text(alphabet="ab@[]()<>!:/`~\\*_ \n.linearpINE\u200b\x00\u202e&;#", max_size=60)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@errand fix it", "fix it"),
        ("@errand: fix it", "fix it"),
        ("@Errand, fix it", "fix it"),
        ("[@errand](https://linear.app/acme/profiles/errand) fix it", "fix it"),
        ("please @errand fix it", "please fix it"),
        ("@errand @errand stop", "stop"),
        ("@errand", ""),
        ("@errands fix it", "@errands fix it"),
        ("@errand-2 fix it", "@errand-2 fix it"),
        ("dana@errand.example", "dana@errand.example"),
        ("ask @dana", "ask @dana"),
    ],
)
def test_the_mention_is_taken_out(text: str, said: str) -> None:
    assert without_mention(text, "errand") == said


def test_an_app_without_a_name_is_not_mentioned() -> None:
    assert without_mention(" a @errand ", "") == "a @errand"
    assert not mentions("@ b", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("@dana", f"@{ZERO_WIDTH}dana"),
        ("![x](http://evil.example/p.png)", f"![x]{ZERO_WIDTH}(http://evil.example/p.png)"),
        ("[safe](http://evil.example)", f"[safe]{ZERO_WIDTH}(http://evil.example)"),
        ("[a][b]", f"[a]{ZERO_WIDTH}[b]"),
        ("[b]: http://evil.example", f"[b]{ZERO_WIDTH}: http://evil.example"),
        ("<img src=x>", f"<{ZERO_WIDTH}img src=x>"),
        ("<http://evil.example>", f"<{ZERO_WIDTH}http://evil.example>"),
        ("https://linear.app/acme/profiles/dana", "https://linear\u200b.app/acme/profiles/dana"),
        ("https://LINEAR.APP/acme", "https://LINEAR\u200b.APP/acme"),
        ("a < b, c[0], **bold**, `x`", "a < b, c[0], **bold**, `x`"),
        ("a\x00b\x1b[31mc\u202ed", "abcd"),
    ],
)
def test_what_others_wrote_calls_nobody_and_hides_no_address(text: str, shown: str) -> None:
    assert defuse(text) == shown


@given(text=EVIL)
def test_nothing_that_was_defused_is_live(text: str) -> None:
    for safe in (defuse(text), written(text, 50), written_line(text, 50)):
        assert not re.search(r"@\w|\][(\[:]|<[A-Za-z/!?]|linear\.app\b", safe, re.IGNORECASE)
        assert "\x00" not in safe


@given(text=EVIL)
def test_a_fence_is_closed_by_nothing_inside(text: str) -> None:
    block = code_block(text, 40)
    if not block:
        return
    fence, *inside, end = block.split("\n")
    assert fence == end == "`" * len(fence)
    assert not any(fence in line for line in inside)


@given(text=EVIL)
def test_code_is_one_line_and_ends_where_it_should(text: str) -> None:
    shown = code(text, 20)
    assert "\n" not in shown
    assert shown.count("`") == 2


@given(text=st.text(max_size=50), limit=st.integers(1, 30))
def test_nothing_is_longer_than_its_limit(text: str, limit: int) -> None:
    assert len(limited(text, limit)) <= limit
    assert len(written(text, limit)) <= limit


def test_the_end_of_a_tail_is_kept() -> None:
    assert code_block("a" * 100 + "END", 10) == "```\n…aaaaaaEND\n```"
    assert code_block(" \n ", 10) == ""


def test_a_link_shows_its_label_alone() -> None:
    assert (
        link("Open [x](y)", "https://a.example/1") == "[Open (x)\u200b(y)](<https://a.example/1>)"
    )


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://a.example/x?y=1", True),
        ("http://127.0.0.1:8400/tasks/1", True),
        ("javascript:alert(1)", False),
        ("https://a.example/ b", False),
        ("https://a.example/>", False),
        ("https://a.example/\n", False),
        ("", False),
    ],
)
def test_only_the_webs_addresses_are_links(url: str, *, good: bool) -> None:
    assert is_web(url) is good
