"""What a worker counts: a port whose shipped form counts nothing."""


class Meter:
    """Override what is wanted. No method waits or fails."""

    def slots(self, *, slots: int, free: int, draining: bool) -> None:
        """How much room the host has."""

    def launch(self, standing: str) -> None:
        """A launch was taken from the queue; what the claim said to it."""

    def sandbox_started(self, seconds: float) -> None:
        """A sandbox is up that was not there before."""

    def renewal_failed(self) -> None:
        """Redis did not answer when a lease was claimed or renewed."""

    def run_ended(self, outcome: str, *, seconds: float) -> None:
        """A run has come to its end on this host, `seconds` after it was begun or adopted here."""

    def set_aside(self) -> None:
        """A sandbox was set aside, for a person to decide."""
