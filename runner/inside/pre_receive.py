"""Git's pre-receive hook of the quarantine: says in sentences what stands against a push.

Arguments: the git directory and a file with the rules (`--check` after them only tries that this runs). Standard input: git's `old new ref` lines. The verdict goes to
a file beside the rules as well, because a hook that did not run looks to git like one that agreed.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.publish import judge, rules_from_json
from runner.inside.errors import GitReadError
from runner.inside.gitread import GitRead

_FIELDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    head: str
    reasons: tuple[str, ...]

    def as_json(self) -> str:
        return json.dumps({"head": self.head, "reasons": list(self.reasons)})


def read_verdict(path: Path) -> Verdict | None:
    """None if the hook has not spoken."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Verdict(head=str(data["head"]), reasons=tuple(map(str, data["reasons"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def verdict_path(rules: Path) -> Path:
    return rules.with_name("verdict.json")


def consider(lines: Sequence[str], *, git: GitRead, rules: object) -> Verdict:
    """Judge the ref updates of one push."""
    updates = [line.split(" ", 2) for line in lines]
    if not isinstance(rules, dict) or any(len(update) != _FIELDS for update in updates):
        return Verdict(head="", reasons=("The push cannot be understood.",))
    limits = rules_from_json(rules.get("publish"))
    if limits is None:
        return Verdict(head="", reasons=("There are no rules for pushes.",))
    heads = {new for _, new, _ in updates}
    head = heads.pop() if len(heads) == 1 else ""
    if not head or set(head) == {"0"}:
        return Verdict(head="", reasons=("Push one commit to one branch; nothing can be deleted.",))
    refs = [ref for _, _, ref in updates]
    try:
        change = git.change(base=str(rules.get("base")), head=head, refs=refs)
    except GitReadError as exc:
        return Verdict(head=head, reasons=(f"The push cannot be read: {exc}.",))
    reasons = tuple(objection.sentence for objection in judge(change, limits=limits))
    return Verdict(head=head, reasons=reasons)


def main(argv: Sequence[str] | None = None) -> int:
    args = sys.argv[1:] if argv is None else argv
    if "--check" in args:
        return 0
    git_dir, rules = (Path(arg) for arg in args)
    lines = sys.stdin.read().splitlines()
    verdict = consider(
        lines, git=GitRead(git_dir, env=None), rules=json.loads(rules.read_text(encoding="utf-8"))
    )
    verdict_path(rules).write_text(verdict.as_json(), encoding="utf-8")
    for reason in verdict.reasons:
        sys.stderr.write(f"errand: {reason}\n")
    return 1 if verdict.reasons else 0
