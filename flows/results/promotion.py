"""The gate, as a task after the stages: the champion stays, or the best replaces it.

It is no stage of dvc.yaml, for a champion is no function of this run's inputs: the same
model may be promoted today and refused tomorrow. Twice in a row it changes nothing.
"""

from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from flows.results import remote
from prefect_dvc import CommandFailed, Commands, Stopped
from tasks.evaluation import metrics_file
from tasks.registry import champions
from tasks.registry.champions import Record
from tasks.runtime.cli import describe_system_error
from tasks.runtime.params import BadInput

NAME = "promote"
DESCRIPTION = "Make the best model the champion, if it is better: see the gate's rules."
COMMAND = ["python", "-m", "tasks.promote"]
# `REFUSED` of tasks.promote, which is not imported here: it takes scikit-learn along.
REFUSED = 3


def promote(commands: Commands) -> State[Any]:
    """Be the body of the gate's task; the checkout is the current directory."""
    try:
        if champion := champions.settled(_best()):
            return Completed(
                name="Cached", message=f"{champion.model} is the champion already."
            )
        champion = champions.current()
        lost = champion is not None and not _recovered(champion)
        return _compare(commands, [*COMMAND, *["--lost"] * lost])
    except Stopped:
        return Failed(name="Stopped", message="promote was stopped with the flow.")
    except (BadInput, remote.RemoteError) as error:
        return Failed(message=str(error))
    except OSError as error:
        return Failed(message=describe_system_error(error))


def to_push() -> list[str]:
    """Return the MD5 of the champion's file; none before the first."""
    try:
        record = champions.current()
    except BadInput:
        return []  # that the history can't be read is for the gate to say
    return [record.md5] if record else []


def _best() -> bytes:
    """Return the content of the candidate's file."""
    best = metrics_file.read(Path("reports/metrics.json"))["best"]
    return Path(f"models/{best}.safetensors").read_bytes()


def _recovered(champion: Record) -> bool:
    """Return whether the champion's file is there, or could be got from DVC."""
    try:
        recover(champion)
    except remote.Missing as reason:
        get_run_logger().warning("%s It is held to its record.", reason)
        return False
    return True


def recover(champion: Record) -> None:
    """Get the champion's file from DVC's cache or remote, if it is not there.

    Raises:
        RemoteError: neither has it, or the remote can't be used.
    """
    if not champions.has_model(champion):
        remote.fetch_object(Path(), champion.md5, champions.FILE)
        get_run_logger().info("The champion's file came back from DVC.")


def _compare(commands: Commands, command: list[str]) -> State[Any]:
    """Compare the candidate with the champion, in a process of its own."""
    try:
        lines = commands.run(command)
    except CommandFailed as failure:
        if failure.status == REFUSED:
            return Completed(name="Refused", message=failure.reason)
        return Failed(message=failure.reason)
    return Completed(name="Promoted", message=lines[-1])
