"""What can be wrong with a policy.

PolicyError
└── PolicyFileError  the file cannot be used; the sentence names the place and what to do
"""

from collections.abc import Sequence
from pathlib import Path


class PolicyError(Exception):
    """Root of this room's errors."""


class PolicyFileError(PolicyError):
    """The policy file is missing or wrong. Each problem names the place and what to do."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        super().__init__("\n".join(f"{path}: {problem}" for problem in problems))
        self.path = path
        self.problems = tuple(problems)
