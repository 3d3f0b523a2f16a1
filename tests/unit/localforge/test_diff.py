from hypothesis import given
from hypothesis import strategies as st

from integrations.localforge.diff import MAX_LINES, MAX_WIDTH, Kind, parse, visible

PATCH = """diff --git a/src/a b.txt b/src/a b.txt
index 1..2 100644
--- a/src/a b.txt
+++ b/src/a b.txt
@@ -1,3 +1,3 @@ def f():
 same
---- a dashed line
+++ a plussed line
 diff --git a/not b/a header
diff --git a/logo.png b/logo.png
new file mode 100644
index 0..1
Binary files /dev/null and b/logo.png differ
diff --git "a/tab\\there" "b/tab\\there"
deleted file mode 100644
--- "a/tab\\there"
+++ /dev/null
@@ -1 +0,0 @@
-gone
\\ No newline at end of file
"""


def test_files_keep_their_names_and_counts() -> None:
    found = [(file.path, file.added, file.removed) for file in parse(PATCH)]
    assert found == [("src/a b.txt", 1, 1), ("logo.png", 0, 0), ("tab\\there", 0, 1)]


def test_content_is_never_taken_for_a_header() -> None:
    assert [(line.kind, line.text) for line in parse(PATCH)[0].lines] == [
        (Kind.HUNK, "@@ -1,3 +1,3 @@ def f():"),
        (Kind.SAME, "same"),
        (Kind.REMOVED, "--- a dashed line"),
        (Kind.ADDED, "++ a plussed line"),
        (Kind.SAME, "diff --git a/not b/a header"),
    ]


def test_a_binary_file_says_so() -> None:
    assert [line.text for line in parse(PATCH)[1].lines] == [
        "new file mode 100644",
        "Binary files /dev/null and b/logo.png differ",
    ]


def test_long_files_and_long_lines_are_cut() -> None:
    lines = "\n".join(f"+{'x' * 1000}" for _ in range(MAX_LINES + 5))
    [file] = parse(f"diff --git a/f b/f\n@@ -0,0 +1 @@\n{lines}\n")
    assert (len(file.lines), file.hidden, file.added) == (MAX_LINES, 6, MAX_LINES + 5)
    assert max(len(line.text) for line in file.lines) == MAX_WIDTH + 1


def test_characters_that_turn_text_are_shown() -> None:
    assert visible("a\u202eb\x1b[0m\tc\n") == "a⟨U+202E⟩b⟨U+001B⟩[0m\tc\n"


@given(st.text(alphabet='diff --git ab/"\\+-@ \n\r\x00'))
def test_no_patch_breaks_the_page(patch: str) -> None:
    for file in parse(patch):
        assert len(file.lines) <= MAX_LINES + len(patch)
