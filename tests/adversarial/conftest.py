"""A workspace that can push to a real gateway: the one of the contract tests."""

from tests.contract.inside.test_push import mirror as mirror  # noqa: PLC0414 - a fixture for others
from tests.contract.inside.test_push import workspace as workspace  # noqa: PLC0414 - as above
