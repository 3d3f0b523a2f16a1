import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.commands import Call, Refused, decide

REPO = "acme/web"


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("pr view", Call(verb="pr view", number=None)),
        ("pr view 12", Call(verb="pr view", number=12)),
        ("pr diff #12", Call(verb="pr diff", number=12)),
        ("pr checks 12 --repo acme/web", Call(verb="pr checks", number=12)),
        ("-R ACME/Web pr view 7 -c", Call(verb="pr view", number=7, comments=True)),
        ("issue view 3 --comments", Call(verb="issue view", number=3, comments=True)),
        ("issue view https://github.test/acme/web/issues/3", Call(verb="issue view", number=3)),
        ("pr view https://github.test/acme/web/pull/3/", Call(verb="pr view", number=3)),
    ],
)
def test_reading_the_tasks_own_repository_is_open(line: str, call: Call) -> None:
    assert decide("gh", line.split(), repo=REPO) == call


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("", "not open"),
        ("pr", "not open"),
        ("pr merge 12", "not open"),
        ("pr comment 12 --body x", "not open"),
        ("issue view", "which issue"),
        ("issue create", "not open"),
        ("api /user", "not open"),
        ("repo create x", "not open"),
        ("pr view 12 -R other/web", "Another repository"),
        ("pr view 12 --repo=acme/web/../x", "Another repository"),
        ("pr view 12 -R", "Another repository"),
        ("pr view 12 --json title", "--json is not open"),
        ("pr view 12 --web", "--web is not open"),
        ("pr view 12 13", "one thing"),
        ("pr view main", "by its number"),
        ("pr view 0", "by its number"),
        ("pr view ١٢", "by its number"),
        ("pr view https://github.test/other/web/pull/3", "by its number"),
        ("pr view https://github.test/acme/web/issues/3", "by its number"),
        ("pr view " + "9" * 501, "too long"),
        ("pr view " + "1 " * 30, "too long"),
    ],
)
def test_all_else_is_refused_in_words(line: str, word: str) -> None:
    answer = decide("gh", line.split(), repo=REPO)
    assert isinstance(answer, Refused)
    assert word in answer.reason
    assert "gh pr view|diff|checks" in answer.reason


def test_another_program_has_no_broker() -> None:
    assert isinstance(decide("kubectl", ["get", "pods"], repo=REPO), Refused)


@given(st.text(max_size=10), st.lists(st.text(max_size=30), max_size=25), st.text(max_size=30))
def test_whatever_is_asked_there_is_an_answer(tool: str, argv: list[str], repo: str) -> None:
    answer = decide(tool, argv, repo=repo)
    assert isinstance(answer, Call | Refused)


WORDS = st.sampled_from(
    [
        "pr",
        "issue",
        "view",
        "diff",
        "checks",
        "merge",
        "1",
        "#2",
        "-R",
        REPO,
        "x/y",
        "-c",
        "--json",
        "--repo=x/y",
    ]
)


@given(st.lists(WORDS, max_size=8))
def test_a_call_is_one_of_four_and_of_this_repository(argv: list[str]) -> None:
    answer = decide("gh", argv, repo=REPO)
    if isinstance(answer, Call):
        assert answer.verb in {"pr view", "pr diff", "pr checks", "issue view"}
        assert "x/y" not in argv
        assert "--json" not in argv
        assert answer.number in {None, 1, 2}
