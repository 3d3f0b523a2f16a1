"""What a worker is told of a run: made from the task's row and its grant."""

from bot.store.rows import TaskRow
from policies.model import Grant
from runner.agents.catalogue import CATALOGUE
from runner.protocol import Connection, Launch, PublishLimits, RunKey, RunLimits


def launch_of(task: TaskRow, *, installation: str, base_branch: str) -> Launch:
    """The launch of the task's newest run."""
    grant = Grant.model_validate(task.grant)
    limits = grant.limits
    return Launch(
        run=RunKey(task=task.id, fence=task.fence),
        installation=installation,
        forge=task.forge,
        repo=task.repo,
        base_branch=base_branch,
        branch=task.branch,
        resume=bool(task.pull_url),
        title=task.title,
        prompt=task.prompt,
        context=task.context,
        guidance=task.guidance,
        agent=grant.agent,
        agents=tuple(CATALOGUE) if "*" in grant.agents else grant.agents,
        egress=grant.egress,
        profiles=grant.profiles,
        connections=tuple(Connection(**c.model_dump()) for c in grant.connections),
        limits=RunLimits(
            wall_seconds=limits.wall_minutes * 60,
            memory_mib=limits.memory_mib,
            cpus=limits.cpus,
            pids=limits.pids,
            disk_mib=limits.disk_mib,
            turns=limits.turns,
        ),
        publish=PublishLimits(
            protected=grant.publish.protected,
            max_files=grant.publish.max_files,
            max_bytes=grant.publish.max_bytes,
            max_commits=grant.publish.max_commits,
        ),
        runtime=grant.runtime,
        denied_commands=grant.denied_commands,
        brokered_commands=grant.brokered_commands,
        requester=task.requester_name,
    )
