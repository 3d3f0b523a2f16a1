"""Finds the recipe in a request, and splits a shell script into commands that are complete in themselves."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.inside.errors import RecipeError

TITLE_CHARACTERS = 80
RECIPES = Path(".errand/recipes")
HOW_TO = (
    "There is no recipe in this request. Put shell commands between ``` lines,"
    " or name a file of the repository: `recipe NAME` runs .errand/recipes/NAME.sh."
)
_RECIPE_BYTES = 256 * 1024
_COMMANDS = 200
_CHECK_SECONDS = 10.0
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([^`]*?)[ \t]*")
_LANGUAGES = frozenset({"", "sh", "bash", "shell", "console"})
_ASKED = re.compile(r"(?:run[ \t]+)?recipe[ \t]+`?([a-z0-9_-]{1,64})`?\.?", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_CONTINUED = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")
_PROMPT = re.compile(r"^\$ ", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    title: str
    command: str


def find_recipe(prompt: str, *, cwd: Path) -> str:
    """The script that a request means. Raises RecipeError."""
    lines = [line.strip() for line in prompt.splitlines()]
    for language, script in _blocks(prompt):
        if language in _LANGUAGES:
            return script
    for line in lines:
        asked = _ASKED.fullmatch(line)
        if asked is not None:
            return _read(asked[1].lower(), cwd=cwd)
    for line in lines:
        if _NAME.fullmatch(line) and _path(line, cwd=cwd).is_file():
            return _read(line, cwd=cwd)
    if _NAME.fullmatch(prompt.strip()):
        return _read(prompt.strip(), cwd=cwd)
    raise RecipeError(HOW_TO)


def _blocks(prompt: str) -> Iterator[tuple[str, str]]:
    """Language and content of each fenced block that has an end."""
    mark, language = "", ""
    content: list[str] = []
    for line in prompt.splitlines():
        fence = _FENCE.fullmatch(line)
        if not mark and fence is not None:
            mark, language, content = fence[1], fence[2].lower(), []
        elif mark and fence is not None and fence[1].startswith(mark) and not fence[2]:
            yield language, "\n".join(content)
            mark = ""
        elif mark:
            content.append(line)


def _path(name: str, *, cwd: Path) -> Path:
    return cwd / RECIPES / f"{name}.sh"


def _read(name: str, *, cwd: Path) -> str:
    path = _path(name, cwd=cwd)
    if not path.is_file():
        known = sorted(found.stem for found in (cwd / RECIPES).glob("*.sh"))
        there = f"Recipes here: {', '.join(known)}." if known else HOW_TO
        raise RecipeError(f"There is no recipe {name} ({RECIPES / name}.sh). {there}")
    try:
        with path.open("rb") as file:
            return file.read(_RECIPE_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise RecipeError(f"The recipe {name} cannot be read: {exc}.") from exc


def split(script: str) -> tuple[Step, ...]:
    """The commands of a script in their order. Raises RecipeError before anything has run."""
    if len(script) > _RECIPE_BYTES or "\0" in script:
        raise RecipeError("The recipe is too long, or no text.")
    steps: list[Step] = []
    lines: list[str] = []
    comment = ""
    for line in _without_prompts(script).splitlines():
        if not lines and _is_blank(line):
            comment = _comment(line) if line.strip() else ""
            continue
        lines.append(line)
        if _is_complete("\n".join(lines)):
            steps.append(_step("\n".join(lines), comment))
            lines, comment = [], ""
    if lines:
        problem = _complaint("\n".join(lines)) or "a here-document or line does not end"
        raise RecipeError(f"The recipe is no complete shell script: {problem}.")
    if not steps:
        raise RecipeError("The recipe has no commands.")
    if len(steps) > _COMMANDS:
        raise RecipeError(f"The recipe has more than {_COMMANDS} commands.")
    return tuple(steps)


def _without_prompts(script: str) -> str:
    """A console excerpt whose every command has a `$ ` before it, without those."""
    lines = [line for line in script.splitlines() if line.strip()]
    if lines and all(line.startswith("$ ") for line in lines):
        return _PROMPT.sub("", script)
    return script


def _is_blank(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _comment(line: str) -> str:
    text = line.strip()
    return "" if text.startswith("#!") else text.lstrip("#").strip()


def _step(command: str, comment: str) -> Step:
    first = comment or command.strip().splitlines()[0].strip()
    cut = first if len(first) <= TITLE_CHARACTERS else first[: TITLE_CHARACTERS - 1] + "…"
    return Step(title=cut, command=command)


def _is_complete(command: str) -> bool:
    if _CONTINUED.search(command):
        return False
    return not _complaint(command)


def _complaint(command: str) -> str:
    """What bash says about a command that it only reads; an open here-document is merely a warning to it."""
    argv: Sequence[str] = ["bash", "--noprofile", "--norc", "-O", "extglob", "-n"]
    try:
        found = subprocess.run(  # noqa: S603 - the command is input, and is only read
            argv,
            input=command.encode("utf-8", "replace") + b"\n",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
            capture_output=True,
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise RecipeError(f"bash cannot read the recipe: {exc}.") from exc
    said = found.stderr.decode("utf-8", "replace").strip()
    return said if found.returncode or "here-document" in said else ""
