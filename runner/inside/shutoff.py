"""What the first process of the agent's container takes from itself before there is an agent.

Docker's flags can't: the process becomes untouchable for others of its uid, who could else write into the
transcript through /proc/1/fd/1, or trace it.
"""

import ctypes

_PR_SET_DUMPABLE = 4


def shut_off() -> None:
    """Raises OSError where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), None, None, None) != 0:
        raise OSError(ctypes.get_errno(), "the process could not be shut off")
