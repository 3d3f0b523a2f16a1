"""How long property tests try: ERRAND_FUZZ_EXAMPLES=1000000 for a long evening, a bounded number otherwise."""

import os

from hypothesis import HealthCheck, settings

_EXAMPLES = int(os.environ.get("ERRAND_FUZZ_EXAMPLES", "0"))

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For property tests: a busy machine is no failure."""

fuzzed = settings(
    patient,
    max_examples=_EXAMPLES or 300,
    database=None,
    derandomize=not _EXAMPLES,
)
"""For parsers and decisions that hostile bytes reach."""
