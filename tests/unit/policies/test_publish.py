from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.publish import (
    ALWAYS_PROTECTED,
    MAX_OBJECTIONS,
    Change,
    Entry,
    PublishRules,
    judge,
    rules_from_json,
)
from tests.support.fuzz import fuzzed

BASE, HEAD = "a" * 40, "b" * 40


def entry(path: str | bytes, mode: int = 0o100644, **changes: object) -> Entry:
    raw = path.encode() if isinstance(path, str) else path
    made = Entry(path=raw, old_mode=0, new_mode=mode, size=10, status="A")
    return replace(made, **changes)  # type: ignore[arg-type]  # fields by name, checked at run time


def link(path: str, target: str | bytes | None) -> Entry:
    raw = target.encode() if isinstance(target, str) else target
    return entry(path, 0o120000, target=raw)


def change(*entries: Entry, **changes: object) -> Change:
    made = Change(
        base=BASE,
        head=HEAD,
        refs=("refs/heads/errand/1-fix",),
        descends=True,
        commits=1,
        entries=entries,
        total_bytes=sum(e.size for e in entries),
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # as above


def rules_broken(made: Change, **limits: object) -> list[str]:
    return [found.rule for found in judge(made, limits=replace(PublishRules(), **limits))]  # type: ignore[arg-type]  # as above


def test_an_ordinary_change_may_go() -> None:
    made = change(
        entry("src/app.py", status="M", old_mode=0o100644),
        entry("bin/run", 0o100755),
        entry("docs/\u00fcbersicht \U0001f389.md"),
        entry("old.txt", 0, old_mode=0o100644, status="D"),
        entry(".github/CODEOWNERS"),
        entry(".gitignore"),
        entry("units/dev-disk-by\\x2dlabel.mount"),
        link("docs/latest", "v2/index.md"),
        link("a/b/c", "../../src/app.py"),
        link("a/here", "."),
        link("a/up", "../"),
    )
    assert judge(made, limits=PublishRules()) == ()


def test_sha256_repositories_are_known() -> None:
    assert not rules_broken(change(base="a" * 64, head="0" * 64))


@pytest.mark.parametrize("refs", [(), ("refs/heads/a", "refs/heads/b")])
def test_one_ref_is_pushed(refs: tuple[str, ...]) -> None:
    assert rules_broken(change(refs=refs)) == ["ref"]


def test_only_the_branch_of_the_task_is_pushed() -> None:
    ref = "refs/heads/errand/1-fix"
    assert not rules_broken(change(), ref=ref)
    (found,) = judge(change(refs=("refs/heads/main\n",)), limits=PublishRules(ref=ref))
    assert found.rule == "ref"
    assert found.sentence == f"Push to {ref}, not to refs/heads/main\\n."


def test_history_is_not_rewritten() -> None:
    (found,) = judge(change(descends=False), limits=PublishRules())
    assert found.rule == "ancestry"
    assert "rebase them onto it and push again" in found.sentence


@pytest.mark.parametrize("commit", ["", "main", "A" * 40, "a" * 41, "a" * 40 + "\n"])
def test_commits_are_named_in_full(commit: str) -> None:
    assert rules_broken(change(head=commit)) == ["ancestry"]
    assert rules_broken(change(base=commit)) == ["ancestry"]


@pytest.mark.parametrize(
    ("limit", "made"),
    [
        ("max_commits", change(commits=101)),
        ("max_files", change(*(entry(f"f{i}") for i in range(201)))),
        ("max_bytes", change(total_bytes=5_000_001)),
    ],
)
def test_a_change_has_limits(limit: str, made: Change) -> None:
    (found,) = judge(made, limits=PublishRules())
    assert found.rule == limit
    assert found.path == ""
    assert "at most" in found.sentence


def test_a_path_counts_once_and_each_of_its_contents_is_judged() -> None:
    steps = [entry("a", size=i) for i in range(200)]
    assert not rules_broken(change(*steps), max_files=1)
    assert rules_broken(change(*steps, link("a", "/etc")), max_files=1) == ["symlink"]


def test_far_too_many_files_are_not_all_looked_at() -> None:
    many = (entry(f"a{i}", 1) for i in range(1000))
    found = judge(change(*many), limits=PublishRules())
    assert found[0].rule == "max_files"
    assert len(found) == MAX_OBJECTIONS + 1


def test_a_single_file_has_a_limit() -> None:
    assert rules_broken(change(entry("a", size=11)), max_blob_bytes=10) == ["max_blob_bytes"]
    assert rules_broken(change(entry("a", size=11), total_bytes=0), max_bytes=10) == [
        "max_blob_bytes"
    ]


@pytest.mark.parametrize(
    "path",
    [
        ".github/workflows/ci.yml",
        ".GitHub/Workflows/ci.yml",
        ".github/workflows/deep/er/ci.yml",
        ".github/workflows",
        ".github./workflows /ci.yml",
        ".git\u200chub/workflows/ci.yml",
        ".github/workflows:x/ci.yml",
        ".gitmodules",
        ".GITMODULES",
        "vendor/.gitmodules",
    ],
)
def test_what_runs_elsewhere_is_always_protected(path: str) -> None:
    assert "protected" in rules_broken(change(entry(path)))
    assert "protected" in rules_broken(change(entry(path, 0, status="D", old_mode=0o100644)))


@pytest.mark.parametrize(
    ("glob", "path", "covered"),
    [
        ("infra/**", "infra/main.tf", True),
        ("infra/**", "infra/a/b.tf", True),
        ("infra/**", "infra", True),
        ("infra/**", "infrared/a", False),
        ("infra/**", "src/infra/a", False),
        ("infra/", "infra/a", True),
        ("infra", "src/infra/a", True),
        ("/infra", "src/infra/a", False),
        ("/infra", "infra/a", True),
        ("CODEOWNERS", "docs/CODEOWNERS", True),
        ("docs/CODEOWNERS", "CODEOWNERS", False),
        ("**/deploy/*.yml", "deploy/a.yml", True),
        ("**/deploy/*.yml", "a/b/deploy/a.yml", True),
        ("**/deploy/*.yml", "a/deploy/b/a.yml", False),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z/deep", True),
        ("a/**/z", "a/b/c", False),
        ("a/*/z", "a/z", False),
        ("*.lock", "x/y.lock", True),
        ("file?.[ch]", "file1.c", True),
        ("file?.[ch]", "file1.o", False),
        ("**", "anything", True),
        ("Infra/**", "iNFRA/x", True),
    ],
)
def test_a_pattern_covers_a_path_and_all_below_it(glob: str, path: str, *, covered: bool) -> None:
    broken = rules_broken(change(entry(path)), protected=(glob,))
    assert broken == (["protected"] if covered else [])


def test_an_objection_names_the_path_the_rule_and_what_to_do() -> None:
    made = change(entry("infra/main.tf"))
    (found,) = judge(made, limits=PublishRules(protected=("infra/**",)))
    assert (found.rule, found.path) == ("protected", "infra/main.tf")
    assert found.sentence == (
        "infra/main.tf is protected by infra/**; undo the change of it"
        " (a person may change the policy)."
    )


@pytest.mark.parametrize("path", [".github", ".GITHUB"])
def test_a_link_cannot_stand_in_for_a_protected_folder(path: str) -> None:
    assert rules_broken(change(link(path, "mine"))) == ["protected"]
    assert not rules_broken(change(link("src/.github", "mine")))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/abs",
        "a//b",
        "a/",
        "a\nb",
        "a\0b",
        "a\x1b[31mb",
        "a\x7f",
        "a\x85b",
        "a\u202eb",
        "a\u2028b",
        b"a\xffb",
        "n" * 256,
        "/".join(["n" * 200] * 21),
        ".",
        "..",
        "../x",
        "a/../b",
        "a/./b",
        ".git",
        ".git/config",
        "a/.GIT/hooks/x",
        "a/.git./x",
        "a/.git /x",
        "a/.git::$INDEX_ALLOCATION/x",
        "a/.g\u200dit/x",
        "a/GIT~1/x",
        "a\\.git\\x",
        "a\\..\\x",
    ],
)
def test_a_name_that_somebody_may_misread_is_refused(path: str | bytes) -> None:
    (found,) = judge(change(entry(path)), limits=PublishRules())
    assert found.rule == "name"
    assert found.sentence.isprintable()
    assert len(found.path) <= 200
    assert not rules_broken(change(entry(path, 0, status="D")))


def test_a_submodule_may_go_but_not_come() -> None:
    assert rules_broken(change(entry("vendor/x", 0o160000))) == ["submodule"]
    changed = entry("vendor/x", 0o160000, old_mode=0o160000, status="M")
    assert rules_broken(change(changed)) == ["submodule"]
    assert not rules_broken(change(entry("vendor/x", 0, old_mode=0o160000, status="D")))


@pytest.mark.parametrize("mode", [0o100664, 0o104755, 0o100666, 0o060000, 1, -1])
def test_only_four_modes_are_known(mode: int) -> None:
    assert rules_broken(change(entry("a", mode))) == ["mode"]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a", None),
        ("a", ""),
        ("a", "/etc/passwd"),
        ("a", "/"),
        ("a", "../x"),
        ("a/b", "../../x"),
        ("a/b", "x/../../y"),
        ("a/b", "x/../y"),
        ("a", "./../x"),
        ("a", "..\\x"),
        ("a", "C:/x"),
        ("a", "x\ny"),
        ("a", b"\xff"),
        ("a", "x//y"),
        ("a", ".git/config"),
        ("a/b", "../.GIT/hooks"),
        ("a", "x" * 5000),
        (".gitattributes", "x"),
        ("sub/.gitignore", "x"),
        (".mailmap", "x"),
        ("a", ".gitattributes"),
        ("sub/a", "../.GitIgnore"),
    ],
)
def test_a_link_stays_inside_and_away_from_what_git_reads(
    path: str, target: str | bytes | None
) -> None:
    assert rules_broken(change(link(path, target))) == ["symlink"]


@pytest.mark.parametrize(
    "paths",
    [
        ("x/HEAD", "x/config", "x/objects/aa/bb"),
        ("x/HEAD", "x/refs/heads/main"),
        ("a/x/head", "a/x/hooks/post-checkout"),
        ("x/HEAD", "x/objects"),
    ],
)
def test_a_repository_inside_is_refused(paths: tuple[str, ...]) -> None:
    found = judge(change(*(entry(path) for path in paths)), limits=PublishRules())
    assert [objection.rule for objection in found] == ["embedded"]
    assert found[0].path == paths[0].rpartition("/")[0]


def test_a_repository_inside_may_be_taken_out_and_its_parts_may_stand_apart() -> None:
    gone = [entry(path, 0, status="D") for path in ("x/HEAD", "x/objects/aa")]
    assert not rules_broken(change(*gone))
    assert not rules_broken(change(entry("x/HEAD"), entry("y/objects/a"), entry("x/config")))
    assert rules_broken(change(entry("HEAD"), entry("refs/a"))) == ["embedded"]


def test_many_objections_are_cut() -> None:
    found = judge(change(*(entry(f"a{i}", 1) for i in range(60))), limits=PublishRules())
    assert len(found) == MAX_OBJECTIONS + 1
    assert found[-1].sentence == "10 more objections are not listed."


def test_rules_come_from_json() -> None:
    assert rules_from_json({}) == PublishRules()
    data = {"protected": ["a"], "max_files": 1, "max_bytes": 2, "max_commits": 3, "ref": "r"}
    assert rules_from_json({**data, "max_blob_bytes": None}) == PublishRules(
        protected=("a",), max_files=1, max_bytes=2, max_commits=3, ref="r"
    )


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"max_file": 1},
        {1: 1},
        {"protected": "a"},
        {"protected": [1]},
        {"ref": 1},
        {"max_files": None},
        {"max_files": "1"},
        {"max_files": -1},
        {"max_files": True},
        {"max_bytes": 1.5},
    ],
)
def test_rules_that_are_not_right_are_no_rules(data: object) -> None:
    assert rules_from_json(data) is None


MODES = st.sampled_from([0, 0o100644, 0o100755, 0o120000, 0o160000, 0o040000]) | st.integers()
PATHS = st.binary(max_size=30) | st.lists(
    st.sampled_from([b".git", b"..", b".github", b"workflows", b"HEAD", b"refs", b"a", b""])
).map(b"/".join)
ENTRIES = st.builds(
    Entry,
    path=PATHS,
    old_mode=MODES,
    new_mode=MODES,
    size=st.integers(),
    status=st.text(max_size=2),
    target=st.none() | PATHS,
)
CHANGES = st.builds(
    Change,
    base=st.text() | st.just(BASE),
    head=st.text() | st.just(HEAD),
    refs=st.lists(st.text(), max_size=3).map(tuple),
    descends=st.booleans(),
    commits=st.integers(),
    entries=st.lists(ENTRIES, max_size=8).map(tuple),
    total_bytes=st.integers(),
)
LIMITS = st.builds(
    PublishRules,
    protected=st.lists(st.text(max_size=8) | st.sampled_from(["**", "a/**"]), max_size=3).map(
        tuple
    ),
    max_files=st.integers(),
    max_bytes=st.integers(),
    max_commits=st.integers(),
    max_blob_bytes=st.none() | st.integers(),
    ref=st.none() | st.text(),
)


@fuzzed
@given(CHANGES, LIMITS)
def test_judge_never_raises_and_speaks_plainly(made: Change, limits: PublishRules) -> None:
    for found in judge(made, limits=limits):
        assert found.rule
        assert found.path.isprintable()
        assert found.sentence.endswith(".")


@fuzzed
@given(CHANGES, LIMITS)
def test_what_may_go_is_what_the_rules_say_in_short(made: Change, limits: PublishRules) -> None:
    if judge(made, limits=limits):
        return
    assert len(made.refs) == 1
    assert made.descends
    assert made.commits <= limits.max_commits
    assert len({e.path for e in made.entries}) <= limits.max_files
    assert made.total_bytes <= limits.max_bytes
    for found in made.entries:
        name = found.path.decode().lower()
        assert found.new_mode in {0, 0o100644, 0o100755, 0o040000, 0o120000}
        assert not name.startswith((".github/workflows/", ".git/", "/"))
        assert ".." not in name.split("/")
        assert name.isprintable()
        assert (found.target is not None) or found.new_mode != 0o120000


@fuzzed
@given(CHANGES, LIMITS)
def test_more_protection_never_lets_more_through(made: Change, limits: PublishRules) -> None:
    if judge(made, limits=replace(limits, protected=())):
        assert judge(made, limits=limits)


@fuzzed
@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.dictionaries(st.text(), x)))
def test_rules_from_json_is_total(data: object) -> None:
    assert rules_from_json(data) is None or isinstance(data, dict)


def test_the_protection_that_is_always_there() -> None:
    assert ALWAYS_PROTECTED == (".github/workflows/**", ".gitmodules")
