"""Runs for a sandbox what its policy lets a broker run: a structured call, read with `serve`'s own access."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bot.store.rows import TaskRow
from integrations.errors import IntegrationError
from integrations.reading import Discussion, Reading
from policies.commands import Call, Refused, decide
from policies.model import Grant
from runner.protocol import Answered, Asked

MOST_CHARACTERS: Final = 200_000
_NUMBER: Final = re.compile(r"/(\d{1,9})/?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    readings: Mapping[str, Reading]
    """By the forge's name."""

    async def run(self, row: TaskRow, asked: Asked) -> Answered:
        """Never raises for what was asked, or what a forge answers."""
        grant = Grant.model_validate(row.grant)
        if asked.tool not in grant.brokered_commands:
            return _denied(f"the policy of {row.repo} has no broker for {asked.tool}")
        answer = decide(asked.tool, asked.argv, repo=row.repo)
        if isinstance(answer, Refused):
            return _denied(answer.reason)
        number = answer.number or _own_pull(row)
        if number is None:
            return _failed("This task has no pull request yet: name one by its number.")
        if row.forge not in self.readings:
            return _failed(f"the forge {row.forge} is not switched on here")
        try:
            text = await _read(self.readings[row.forge], row.repo, number, answer)
        except IntegrationError as error:
            return _failed(str(error))
        return Answered(verdict="allow", status=0, stdout=text[:MOST_CHARACTERS])


async def _read(reading: Reading, repo: str, number: int, call: Call) -> str:
    match call.verb:
        case "pr view":
            return _discussion(await reading.pull(repo, number, comments=call.comments))
        case "pr diff":
            return await reading.diff(repo, number)
        case "pr checks":
            checks = await reading.checks(repo, number)
            lines = [f"{check.name}\t{check.state}\t{check.url}" for check in checks]
            return "\n".join(lines or ["no checks"]) + "\n"
        case "issue view":
            return _discussion(await reading.issue(repo, number, comments=call.comments))


def _discussion(found: Discussion) -> str:
    facts = {
        "title": found.title,
        "state": found.state,
        "author": found.author,
        "number": found.number,
        "url": found.url,
    }
    if found.branches:
        facts |= {"head": found.branches[0], "base": found.branches[1]}
    head = "".join(f"{name}:\t{value}\n" for name, value in facts.items())
    said = "".join(f"--\n{c.author} commented:\n{c.text}\n" for c in found.comments)
    return f"{head}--\n{found.body}\n{said}"


def _own_pull(row: TaskRow) -> int | None:
    found = _NUMBER.search(row.pull_url)
    return int(found[1]) if found else None


def _denied(reason: str) -> Answered:
    return Answered(verdict="deny", reason=reason, status=1, stderr=f"denied by policy: {reason}\n")


def _failed(reason: str) -> Answered:
    return Answered(verdict="allow", reason=reason, status=1, stderr=f"{reason}\n")
