"""What a trial runs under: the policy's word on a repository, and what the operator adds to it for once."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from pydantic import SecretStr

from bot.errors import SettingsError, SetupError
from bot.launch import launch_of
from bot.settings import Settings
from bot.states import TaskState
from bot.store.rows import TaskRow
from integrations.channel import Conversation
from policies.decide import decide
from policies.hosts import EgressRule
from policies.load import load_policy, parse_policy
from policies.model import Ask, Grant, Policy
from runner.guard import open_ports, policy_message
from runner.protocol import Launch, Runtime
from runner.sandbox import SandboxSpec, stricter
from runner.trial import host_label, run_key

NO_REPO: Final = "operator/trial"
_OPERATOR: Final = "cli:operator"
_PLACE: Final = Path("what was asked for on the command line")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be tried."""

    repo: str | None = None
    """One of the policy's; None is one for which the policy says nothing."""
    profiles: Sequence[str] = ()
    hosts: Sequence[str] = ()
    """More of both than the repository has."""


def launch_for(settings: Settings, wanted: Wanted) -> tuple[Launch, list[str]]:
    """The launch of a task on that repository, as `serve` would make it, and what was left out of it.

    Raises:
        SettingsError: the policy has no such repository.
        PolicyError: the policy, a profile or a host is not as it must be.
    """
    policy = load_policy(settings.policy_file)
    if wanted.repo is not None and wanted.repo not in policy.repos:
        known = ", ".join(sorted(policy.repos)) or "none"
        raise SettingsError(f"the policy describes no repository {wanted.repo}: it has {known}")
    grant = _grant(_widened(policy, wanted), wanted.repo or NO_REPO)
    launch = launch_of(_task(grant), installation=settings.installation, base_branch="main")
    # A port that anything may be said to has no secret.
    usable = tuple(
        c for c in launch.connections if getattr(c, "secret", None) in {None, *settings.secrets}
    )
    left_out = [c.name for c in launch.connections if c not in usable]
    return launch.model_copy(
        update={"run": run_key(), "connections": usable, "reads": (), "brokered_commands": ()}
    ), left_out


def spec_of(
    launch: Launch,
    *,
    image: str,
    mirror: Path,
    runtime: Runtime,
    profiles: Sequence[EgressRule],
) -> SandboxSpec:
    """`runtime` is the least that this host demands, `profiles` what those of the launch came to."""
    return SandboxSpec(
        installation=launch.installation,
        host=host_label(),
        run=launch.run,
        image=image,
        mirror=mirror,
        limits=launch.limits,
        runtime=stricter(launch.runtime, runtime),
        denied=launch.denied_commands,
        ports=open_ports(launch, profiles),
    )


def message_of(
    launch: Launch, *, profiles: Sequence[EgressRule], secrets: Mapping[str, SecretStr]
) -> dict[str, Any]:
    """A task's, but for the quarantine: there is no branch to push."""
    return policy_message(launch, base_commit="", profiles=profiles, secrets=secrets)


@contextmanager
def empty_mirror() -> Iterator[Path]:
    """A repository without commits, where a task has its repository's."""
    with TemporaryDirectory(prefix="errand-trial-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        mirror = root / "mirror.git"
        command = ["git", "init", "--quiet", "--bare", "--template=", str(mirror)]
        try:
            subprocess.run(  # noqa: S603 - fixed arguments
                command, check=True, capture_output=True, text=True, timeout=30
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise SetupError(f"git made no repository ({error}): install git") from error
        yield mirror


def _widened(policy: Policy, wanted: Wanted) -> Policy:
    """One rule for the operator, and the repository with what is added to it; checked as a policy file is."""
    data = policy.model_dump(mode="json", exclude_unset=True)
    name = wanted.repo or NO_REPO
    repo = data.setdefault("repos", {}).setdefault(name, {"forge": "local"})
    egress = repo.setdefault("egress", {})
    egress["profiles"] = [*egress.get("profiles", []), *wanted.profiles]
    egress["hosts"] = [*egress.get("hosts", []), *({"host": host} for host in wanted.hosts)]
    data["rules"] = [
        {"who": [_OPERATOR], "where": ["*"], "repos": ["*"], "agents": ["*"], "may": ["start"]}
    ]
    return parse_policy(json.dumps(data), path=_PLACE)


def _grant(policy: Policy, repo: str) -> Grant:
    answer = decide(policy, Ask(person=_OPERATOR, where=_OPERATOR, action="start", repo=repo))
    if not isinstance(answer, Grant):
        raise SettingsError(f"the policy gives no grant for {repo}: {answer}")
    return answer


def _task(grant: Grant) -> TaskRow:
    """A row that is in no database."""
    now = datetime.now(UTC)
    return TaskRow(
        id="trial", origin="cli:trial", conversation=Conversation(channel="cli", place="", thread=""),
        message_id="", requester=_OPERATOR, requester_name="operator", title="", link="",
        forge=grant.forge, repo=grant.repo, repo_reason="", branch="", prompt="",
        grant=grant.model_dump(mode="json"), policy_hash="", state=TaskState.RUNNING, fence=1, round=1,
        attempts=1, pull_url="", reason="", created_at=now, changed_at=now, ended_at=None,
    )  # fmt: skip
