"""The first program of the agent's container as the parent of orphans, which outside a container it is not."""

import ctypes

from runner.inside import init

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    init.main()
