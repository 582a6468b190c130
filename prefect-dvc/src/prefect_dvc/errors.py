"""The exceptions of prefect-dvc; each message is one sentence for the user."""

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect_dvc.results import RunResult

ADVICE = {
    errno.EMFILE: "; allow more open files (`ulimit -n`) and run again",
    errno.ENOSPC: "; free some space and run again",
}


class PrefectDvcError(Exception):
    """Base class of all exceptions that this package raises."""


class ProjectError(PrefectDvcError):
    """DVC refuses the project, a target or a stage."""


class ProjectBusy(ProjectError):
    """Another run or DVC command works on the same files."""


class DependencyChanged(ProjectError):
    """A dependency changed while its stage ran, so the result is not recorded."""


class DeploymentError(PrefectDvcError):
    """A deployment can't be made."""


class RunFailed(PrefectDvcError):
    """At least one stage failed.

    Attributes:
        result: the outcome of every stage.
    """

    def __init__(self, result: "RunResult") -> None:
        super().__init__(result.summary)
        self.result = result


class Stopped(PrefectDvcError):
    """The run was stopped."""


class TimedOut(PrefectDvcError):
    """A command took longer than its limit."""


class CommandFailed(PrefectDvcError):
    """A command ended with an exit status other than 0.

    Attributes:
        status: the exit status; negative: the signal that ended the command.
        reason: the last line that the command printed; the status if it printed none.
    """

    def __init__(self, status: int, last_line: str) -> None:
        super().__init__(status, last_line)
        ended = f"ended with status {status}"
        how = ended if status >= 0 else f"was ended by signal {-status}"
        self.status = status
        self.reason = last_line or f"The command {how} and gave no reason."

    def __str__(self) -> str:
        return self.reason


def describe_error(error: BaseException) -> str:
    """Join the messages of an error and its causes on one line.

    DVC raises a general error whose cause says what is wrong.
    """
    messages = []
    link: BaseException | None = error
    while link is not None:
        message = str(link)
        if isinstance(link, OSError) and isinstance(link.filename, str):
            message = f"{os.path.relpath(link.filename)}: {link.strerror}"
        messages.append(" ".join(message.split()))
        link = link.__cause__
    return ": ".join(dict.fromkeys(filter(None, messages)))


def describe_system_error(error: OSError) -> str:
    """Describe a system error in one sentence: where, what, and what to do."""
    where = os.path.relpath(error.filename) if error.filename else "input/output"
    return f"{where}: {error.strerror}{ADVICE.get(error.errno or 0, '')}."
