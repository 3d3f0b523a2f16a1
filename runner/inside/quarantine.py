"""The bare repository that an agent pushes into: objects are checked and judged before its branch moves."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote

from policies.publish import PublishRules
from runner.inside.errors import GitReadError
from runner.inside.gitread import GIT_ENV, GitRead
from runner.inside.gitservice import Session, advertised
from runner.inside.pre_receive import read_verdict, verdict_path

BASE_REF = "refs/errand/base"
_OVERHEAD_BYTES = 16 * 1024 * 1024
_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tbare = true
\tsymlinks = false
\thooksPath = {hooks}
\talternateRefsCommand = true
[receive]
\tfsckObjects = true
\tmaxInputSize = {max_input}
\tdenyDeletes = true
\tdenyNonFastForwards = true
\tautogc = false
\tadvertisePushOptions = false
[transfer]
\tfsckObjects = true
[uploadpack]
\tallowAnySHA1InWant = false
[protocol]
\tallow = never
[gc]
\tauto = 0
"""
# The gateway's Python is isolated from the environment and from the directory that git runs the hook in.
_HOOK = """\
#!/bin/sh
exec python3 -I -c 'import sys
sys.path.insert(0, sys.argv.pop(1))
from runner.inside.pre_receive import main
sys.exit(main())' {code} {git_dir} {rules} "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a push may go."""

    repo: str
    """owner/name"""
    branch: str
    base: str

    @property
    def ref(self) -> str:
        return f"refs/heads/{self.branch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    accepted: bool
    reason: str
    head: str


class Quarantine:
    """Needs `state` to be on a file system that may execute: git skips a hook that it cannot run."""

    def __init__(self, *, state: Path, mirror: Path, code: Path) -> None:
        self._state = state
        self._mirror = mirror
        self._code = code
        self._git_dir = state / "repo.git"
        self._rules_path = state / "rules.json"
        self._hook = state / "hooks" / "pre-receive"
        self._lock = threading.Lock()
        self._git = GitRead(self._git_dir)
        self._target: Target | None = None
        self._max_input = 0

    @property
    def most_bytes(self) -> int:
        """Of one request's body: more than git takes, so that git can say what is wrong."""
        return 2 * self._max_input

    @property
    def target(self) -> Target | None:
        return self._target

    def open(self, target: Target, *, rules: PublishRules) -> None:
        """Create the repository, or take new rules for it. Raises GitReadError, OSError."""
        if self._target is None:
            self._max_input = rules.max_bytes + _OVERHEAD_BYTES
            self._create(target)
        elif self._target != target:
            raise GitReadError("init", "the quarantine belongs to another branch")
        publish = asdict(replace(rules, ref=target.ref))
        if publish["max_blob_bytes"] is None:
            del publish["max_blob_bytes"]
        text = json.dumps({"publish": publish, "base": target.base})
        fresh = self._rules_path.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self._rules_path)
        self._target = target

    def _create(self, target: Target) -> None:
        # A gateway that was started anew must not trust what its predecessor left half done.
        if self._git_dir.exists():
            shutil.rmtree(self._git_dir)
        self._write_hook()
        for folder in ("objects/info", "refs/heads"):
            (self._git_dir / folder).mkdir(parents=True)
        config = _CONFIG.format(hooks=self._hook.parent, max_input=self._max_input)
        (self._git_dir / "config").write_text(config, encoding="utf-8")
        (self._git_dir / "HEAD").write_text("ref: refs/heads/main\n", encoding="ascii")
        alternates = self._git_dir / "objects" / "info" / "alternates"
        alternates.write_text(f"{self._mirror / 'objects'}\n", encoding="utf-8")
        self._git.run("check-ref-format", target.ref)
        self._git.run("cat-file", "-e", f"{target.base}^{{commit}}")
        # Advertised, so that only what is new travels.
        self._git.run("update-ref", BASE_REF, target.base)

    def _write_hook(self) -> None:
        self._hook.parent.mkdir(exist_ok=True)
        paths = {"code": self._code, "git_dir": self._git_dir, "rules": self._rules_path}
        text = _HOOK.format_map({name: quote(str(path)) for name, path in paths.items()})
        self._hook.write_text(text, encoding="utf-8")
        self._hook.chmod(0o500)
        try:
            subprocess.run([self._hook, "--check"], env=dict(GIT_ENV), check=True, timeout=30)  # noqa: S603 - our own hook
        except (OSError, subprocess.SubprocessError) as exc:
            raise GitReadError("init", f"the pre-receive hook cannot run: {exc}") from exc

    def advertise(self) -> bytes:
        """What a client needs to know before a push."""
        return advertised(self._argv("--http-backend-info-refs"))

    def receive(self, body: Iterable[bytes], *, out: Callable[[bytes], None]) -> Received | None:
        """Run one push, one at a time; None if it carried nothing. Raises OSError, BodyError of `body` and `out`."""
        with self._lock:
            verdict_path(self._rules_path).unlink(missing_ok=True)
            session = Session(self._argv("--stateless-rpc"))
            session.exchange(body, out=out)
            return self._result(session) if session.carried else None

    def _argv(self, mode: str) -> list[str]:
        return ["git", "receive-pack", mode, str(self._git_dir)]

    def _result(self, session: Session) -> Received:
        verdict = read_verdict(verdict_path(self._rules_path))
        head = verdict.head if verdict else ""
        if verdict and verdict.reasons:
            return Received(accepted=False, reason=" ".join(verdict.reasons), head=head)
        if verdict and head and self.head() == head:
            return Received(accepted=True, reason="", head=head)
        return Received(accepted=False, reason=session.refusal(), head=head)

    def head(self) -> str:
        """Where the branch is; empty if nothing was pushed."""
        if self._target is None:
            return ""
        status, out = self._git.run("rev-parse", "--verify", "-q", self._target.ref, ok=(0, 1))
        return "" if status else out.decode("ascii").strip()
