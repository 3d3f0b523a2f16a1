"""Our own rules, as checks over the sources."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from bot.settings import known_names

ROOT = Path(__file__).parents[2]
ROOMS = ("bot", "integrations", "runner", "policies")
SAMPLE = ROOT / "bot/sample_repo"

MODULE_LINES = 400
FUNCTION_LINES = 60
README_LINES = 150

BROAD = {
    "runner/launches.py:run",  # around arq's loop: a fault in it must not end the runs of the host
    "runner/worker.py:_attend",  # around a run: whatever it was, the person gets an end
    "bot/wiring.py:_keep_going",  # around a loop of serve: a fault in one must not silence the others
    # Around one of many: a delivery, message, event, ticket or forge at fault holds up none of the others.
    "bot/apply.py:apply",
    "bot/completion.py:_attend",
    "bot/completion.py:_completed",
    "bot/desk.py:_failed",
    "bot/desk.py:_take",
    "bot/guard.py:others_go_on",
    "bot/outbox.py:_attend",
    "bot/outbox.py:_call",
    "bot/publish.py:_attempt",
    "bot/pulls.py:_watched",
    "bot/vigil.py:_tell",
    "integrations/linear/polling.py:_tried",
    "integrations/linear/polling.py:round",
    "integrations/slack/catchup.py:_takes_us",
    "integrations/slack/catchup.py:run",
}
INSIDE = {
    f"policies/{name}.py"
    for name in (
        "__init__",
        "addresses",
        "bodies",
        "body_anthropic",
        "body_google",
        "body_openai",
        "connections",
        "connections_json",
        "dialects",
        "egress",
        "features",
        "paths",
        "prices",
        "publish",
        "strictjson",
    )
}
"""They run in containers, beside `runner/inside`."""
PACKAGED = {"runner/inside/authority.py": "cryptography"}
"""What the gateway's image has besides the standard library, and the one module that needs it."""
REGISTRIES = ("pypi", "pythonhosted", "npmjs", "yarnpkg", "rubygems")
"""Those that hosts replace by mirrors of their own: an image says which. Rust's and Go's are in a profile."""
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
DRAWN = re.compile(r"^(?P<branch>[│ ]*[├└]── )?(?P<name>\w+Error)\b")


@cache
def modules() -> list[Path]:
    found = (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    return [path for path in found if SAMPLE not in path.parents]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def committed() -> list[Path]:
    listed = subprocess.run(
        [shutil.which("git") or "git", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    names = [name for name in listed.stdout.split("\0") if name]
    return [path for name in names if (path := ROOT / name).is_file()]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_no_module_is_longer_than_one_can_keep_in_mind() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in modules()}
    assert {name: n for name, n in lengths.items() if n > MODULE_LINES} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {
        f"{name_of(path)}:{function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path in modules()
        for function in functions(path)
    }
    assert {name: n for name, n in lengths.items() if n > FUNCTION_LINES} == {}


def test_everything_is_caught_in_two_places_only() -> None:
    found = {
        f"{name_of(path)}:{function.name}"
        for path in modules()
        for function in functions(path)
        for node in ast.walk(function)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type)
    }
    assert found == BROAD


def _is_broad(caught: ast.expr | None) -> bool:
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(
        name is None or (isinstance(name, ast.Name) and name.id in {"Exception", "BaseException"})
        for name in names
    )


@pytest.mark.parametrize(
    "path", [path for path in modules() if path.name == "errors.py"], ids=name_of
)
def test_the_drawn_error_tree_is_that_of_the_classes(path: Path) -> None:
    classes = {
        node.name: [base.id for base in node.bases if isinstance(base, ast.Name)]
        for node in tree(path).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    }
    drawn = dict(_drawn(ast.get_docstring(tree(path)) or ""))
    assert list(drawn) == list(classes)
    for name, parent in drawn.items():
        assert parent is None or classes[name][0] == parent


def _drawn(text: str) -> Iterator[tuple[str, str | None]]:
    """Each name with its parent in the drawing."""
    above: list[str] = []
    for line in text.splitlines():
        if found := DRAWN.match(line):
            depth = len(found["branch"] or "") // 4
            above[depth:] = [found["name"]]
            yield found["name"], above[depth - 1] if depth else None


def test_the_environment_is_read_by_the_settings_only() -> None:
    readers = {
        name_of(path)
        for path in modules()
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"})
        or (isinstance(node, ast.alias) and node.name in {"environ", "environb", "getenv"})
    }
    assert readers == {"bot/settings.py"}


def test_what_runs_in_containers_needs_the_standard_library_only() -> None:
    inside = [
        path
        for path in modules()
        if name_of(path) in INSIDE or name_of(path).startswith("runner/inside/")
    ]
    own = {name_of(path).removesuffix(".py").replace("/", ".") for path in inside}
    foreign = {
        f"{name_of(path)} imports {module}"
        for path in inside
        for module in imported(path)
        if module.partition(".")[0] not in sys.stdlib_module_names
        and module not in own | {"runner.inside", "policies"}
        and module.partition(".")[0] != PACKAGED.get(name_of(path))
    }
    assert foreign == set()


@pytest.mark.timeout(120)
def test_every_module_imports_with_an_empty_environment() -> None:
    names = [
        name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in modules()
        if "versions" not in path.parts and path.name not in {"__main__.py", "env.py"}
    ]
    code = f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env={}, capture_output=True, check=False, text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_links_in_the_documents_lead_somewhere() -> None:
    dead = {
        f"{name_of(document)}: {target}"
        for document in committed()
        if document.suffix == ".md"
        for target in LINK.findall(document.read_text())
        if not (document.parent / target).exists()
    }
    assert dead == set()


def test_no_committed_file_names_a_package_registry() -> None:
    hosts = re.compile(rf"\b(?:{'|'.join(REGISTRIES)})\.(?:org|com|io)\b")
    naming = {
        f"{name_of(path)}: {found[0]}"
        for path in committed()
        if (found := hosts.search(path.read_text(errors="ignore")))
    }
    assert naming == set()


def test_nothing_is_left_to_do_in_the_sources() -> None:
    marks = re.compile(r"#.*\b(?:TODO|FIXME|XXX)\b")
    undone = {
        f"{name_of(path)}:{number}"
        for path in committed()
        if path.suffix == ".py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line) and path != Path(__file__)
    }
    assert undone == set()


def test_every_setting_is_in_the_documents() -> None:
    told = (ROOT / "docs/settings.md").read_text()
    parents = {name.partition("__")[0] for name in known_names() if "__" in name}
    whole = known_names() - parents
    assert {name for name in whole if f"`{name}" not in told} == set()
