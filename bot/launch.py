"""What a worker is told of a run: made from the task's row and its grant."""

from bot.store.rows import TaskRow
from policies.hosts import EgressRule
from policies.model import Grant
from runner.agents.catalogue import CATALOGUE
from runner.pictures import Picture
from runner.protocol import Launch, PublishLimits, RunKey, RunLimits


def launch_of(
    task: TaskRow,
    *,
    installation: str,
    base_branch: str,
    opened: tuple[EgressRule, ...] = (),
    pictures: tuple[Picture, ...] = (),
    kept: bool = False,
    spent_usd: float = 0.0,
) -> Launch:
    """The launch of the task's newest run.

    `opened` is what people opened besides the grant; `kept` says that the branch holds what was kept of stopped work.
    """
    grant = Grant.model_validate(task.grant)
    limits = grant.limits
    return Launch(
        run=RunKey(task=task.id, fence=task.fence),
        installation=installation,
        forge=task.forge,
        repo=task.repo,
        base_branch=base_branch,
        branch=task.branch,
        resume=bool(task.pull_url) or kept,
        kept=kept,
        title=task.title,
        prompt=task.prompt,
        pictures=pictures,
        context=task.context,
        guidance=task.guidance,
        agent=grant.agent,
        model=grant.model,
        agents=tuple(CATALOGUE) if "*" in grant.agents else grant.agents,
        egress=(*grant.egress, *opened),
        profiles=grant.profiles,
        connections=grant.connections,
        reads=grant.reads,
        spent_usd=spent_usd,
        limits=RunLimits(
            wall_seconds=limits.wall_minutes * 60,
            memory_mib=limits.memory_mib,
            cpus=limits.cpus,
            pids=limits.pids,
            disk_mib=limits.disk_mib,
            turns=limits.turns,
            cost_usd=limits.cost_usd,
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
