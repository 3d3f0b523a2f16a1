"""What can go wrong in a run, by who can act on it.

RunnerError
├── SandboxStartError      Docker or the image is at fault: another attempt, then the operator
│   └── SandboxDiffersError  a container that was started is not as it must be: set the sandbox aside, another attempt
├── SandboxLostError       the containers are gone: another attempt
│   └── SandboxAwayError   Docker does not answer, and containers may live on: wait a while, then as the two above
├── NotEquippedError       this installation lacks what the run needs: the operator
├── WorkspaceError         the repository cannot be fetched or read: the requester or the operator
├── ForgeRefusedError      the forge does not let it be read: the requester or the operator
├── RepoSettingsError      `.errand.yml` is wrong: the repository's people
├── AgentProtocolError     the agent does not speak ACP as it should
├── StaleRunError          another host or a later attempt has taken over: stop and clean up
│   └── UnknownRunError    the database does not know the run: set the sandbox aside, for a person to look at
└── ServeUnavailableError  `serve` does not answer: try again
"""


class RunnerError(Exception):
    """Root of this room's errors."""


class SandboxStartError(RunnerError):
    """A container could not be created, differs from its specification, or did not start."""


class SandboxDiffersError(SandboxStartError):
    """A container that was started is not as it was made, or is open where none may be. It was left as it is."""


class SandboxLostError(RunnerError):
    """A container that should be there is not."""


class SandboxAwayError(SandboxLostError, SandboxStartError):
    """Docker does not answer. Nobody knows what became of what was asked, nor of the containers."""


class NotEquippedError(RunnerError):
    """The sentence says what is missing and who can add it. Another attempt would not help."""


class WorkspaceError(RunnerError):
    """Git could not bring what was asked for; the text holds no credential."""


class ForgeRefusedError(RunnerError):
    """The forge refused for good what `serve` asked it for; the sentence is the forge's."""


class RepoSettingsError(RunnerError):
    """`.errand.yml` is not what it should be; the sentence names the field."""


class AgentProtocolError(RunnerError):
    """The agent sent what the protocol does not allow."""


class StaleRunError(RunnerError):
    """The run is no longer ours."""


class UnknownRunError(StaleRunError):
    """The database has no such run: most likely it was restored from an older copy."""


class ServeUnavailableError(RunnerError):
    """`serve` did not answer, or not with a 2xx."""
