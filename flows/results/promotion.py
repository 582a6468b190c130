"""The gate, a task after the stages: may the best model replace the champion?

It is not a stage of dvc.yaml, because a champion is not a function of the run's inputs:
the same model may be promoted today and refused tomorrow. Repeating it changes nothing.
"""

from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed

from flows.results import remote
from flows.results.run_state import errors_as_states
from prefect_dvc import CommandFailed, Commands
from tasks.evaluation import metrics_file
from tasks.registry import champions
from tasks.runtime import files
from tasks.runtime.cli import describe_system_error
from tasks.runtime.params import BadInput

COMMAND = ["python", "-m", "tasks.promote"]
# The exit status `REFUSED` of tasks.promote, whose import would import scikit-learn.
REFUSED = 3


@errors_as_states
def promote(commands: Commands) -> State[Any]:
    """Compare the best model with the champion; the checkout is the current folder."""
    try:
        if champion := champions.settled(_best_model()):
            return Completed(
                name="Cached", message=f"{champion.model} is the champion already."
            )
        lost = [] if restore_champion() else ["--lost"]
        lines = commands.run([*COMMAND, *lost])
    except CommandFailed as failure:
        if failure.status == REFUSED:
            return Completed(name="Refused", message=failure.reason)
        raise
    except OSError as error:
        raise BadInput(describe_system_error(error)) from error
    return Completed(name="Promoted", message=lines[-1])


def champion_md5() -> list[str]:
    """Return the MD5 of the champion's file; empty before the first champion."""
    try:
        record = champions.current()
    except BadInput:
        return []  # the gate reports a history that can't be read
    return [record.md5] if record else []


def restore_champion() -> bool:
    """Restore the champion's file from DVC's cache or remote, if it is missing.

    Returns False if neither has it.
    """
    champion = champions.current()
    if champion is None or champions.has_model(champion):
        return True
    try:
        model = remote.fetch_object(Path(), champion.md5)
    except remote.MissingFile as reason:
        get_run_logger().warning("The champion is not available: %s", reason)
        return False
    files.write_bytes(champions.FILE, model)
    get_run_logger().info("The champion's file was restored from DVC.")
    return True


def _best_model() -> bytes:
    best = metrics_file.read(Path("reports/metrics.json"))["best"]
    return Path(f"models/{best}.safetensors").read_bytes()
