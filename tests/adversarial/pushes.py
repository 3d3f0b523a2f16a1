"""What is pushed to http://git.internal to get further than its branch: commits, names, links, sizes, requests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.adversarial.case import Case

EVIL_CONFIG: Final = '[core]\n\tfsmonitor = touch %(place)s\n\thooksPath = hooks\n\tsshCommand = touch %(place)s\n\tpager = touch %(place)s\n[filter "x"]\n\tclean = touch %(place)s\n\tsmudge = touch %(place)s\n[diff]\n\texternal = touch %(place)s\n[alias]\n\tpush = !touch %(place)s\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class PushCase(Case):
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    gitlink: str = ""
    message: str = "work"
    to: tuple[str, ...] = ()
    """Refspecs, where they are not the task's own branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenCase(Case):
    """What goes through as content, and is content and nothing else on the host."""

    files: Mapping[str, str]


REFUSED: Final = (
    PushCase(id="46a", tried="a symbolic link to a file of the host", must="refused", record="cannot be trusted", links={"passwd": "/etc/passwd"}),
    PushCase(id="46b", tried="a symbolic link upwards, through others", must="refused", record="leads out", links={"a/b/c": "../../../../etc/shadow"}),
    PushCase(id="65a", tried="a symbolic link in the place of .gitattributes", must="refused", record=".gitattributes", links={".gitattributes": "x"}),
    PushCase(id="65b", tried="a submodule with its address", must="refused", record=".gitmodules", files={".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = https://evil.example/x\n'}),
    PushCase(id="65e", tried="a submodule whose address is an option", must="refused by git itself", record="fsck error in pack", files={".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = -u./payload\n'}),
    PushCase(id="65c", tried="a link to a commit of another repository", must="refused", record="submodule", gitlink="lib"),
    PushCase(id="65d", tried="a bare repository among the files", must="refused", record="repository", files={"x/HEAD": "ref: refs/heads/main\n", "x/config": "[core]\n\tfsmonitor = id\n", "x/objects/a": "", "x/refs/a": ""}),
    PushCase(id="69", tried="a workflow that CI would run", must="refused", record=".github/workflows/evil.yml is protected", files={".github/workflows/evil.yml": "on: push\n"}),
    PushCase(id="69b", tried="the same in other letters", must="refused", record="protected", files={".GITHUB/Workflows/evil.yml": "on: push\n"}),
    PushCase(id="69c", tried="a path that policy protects", must="refused", record="infra/main.tf is protected", files={"infra/main.tf": "x\n"}),
    PushCase(id="49", tried="a file that is small as a pack and large as a file", must="refused", record="bytes", files={"zeros": "\0" * 6_000_000}),
    PushCase(id="66a", tried="more files than a change may have", must="refused", record="files", files={f"f{n}": "x" for n in range(50)}),
    PushCase(id="70b", tried="a push to the default branch", must="refused", record="Push to refs/heads/", files={"a": "1"}, to=("HEAD:refs/heads/main",)),
    PushCase(id="70c", tried="a push to another task's branch, to a tag, to our own refs", must="refused", record="Push to refs/heads/", files={"a": "1"}, to=("HEAD:refs/heads/errand/02-other",)),
    PushCase(id="x18", tried="a second ref besides the allowed one", must="both refused", record="2 refs", files={"a": "1"}, to=("HEAD:refs/heads/errand/01-fix", "HEAD:refs/tags/v1")),
)  # fmt: skip
TAKEN: Final = (
    TakenCase(id="50", tried="files that tools of the host would load: .envrc, .vscode, .idea, .mcp.json, conftest.py, package.json's scripts", must="they are content: no tool of the host opens them", record="accepted, and nothing ran",
        files={".envrc": "touch %(place)s\n", ".vscode/tasks.json": "{}", "conftest.py": "import os; os.system('touch %(place)s')\n", "package.json": '{"scripts": {"install": "touch %(place)s"}}', "setup.py": "import os; os.system('touch %(place)s')\n", ".gitattributes": "* filter=x diff=x\n"}),
)  # fmt: skip
CONFIG: Final = Case(
    id="63",
    tried="the workspace's .git/config: fsmonitor, hooks, ssh, pager, filters, external diff, aliases",
    must="the host never reads it",
    record="accepted, and nothing ran on the host",
)
HOOKS: Final = Case(
    id="64",
    tried="hooks, configuration and alternates through git's endpoint",
    must="404: only objects and refs travel",
    record="Push to the repository of this task",
)
REST: Final = (
    Case(id="47", tried="the workspace replaced by a link while the host would copy it", must="the host copies nothing: a pack travels, and what it unpacks into is its own", record="no such copy exists"),
    Case(id="48", tried="FIFOs and sockets in the place of files", must="a push and the host go on", record="accepted"),
    Case(id="67", tried="patches that leave their directory", must="the host applies no patches", record="no such step exists"),
    Case(id="68", tried="submodules, LFS and hooks of a hostile repository that the host clones", must="the mirror is bare, without submodules and templates", record="no checkout exists"),
)  # fmt: skip
