"""Classify images, as a flow: `python -m flows.predict PATH... [--model NAME]`.

Reads PNG, JPEG, TIFF, IDX, .npy and .npz files, and folders of them. Uses the champion
by default, or the best model of the last run if there is no champion. Writes a table of
predictions, a contact sheet of the least certain images and a summary with the model's
name to `predictions/`.

Exit status: 0 if they are written; an image that can't be read is a row with a reason.
"""
# ruff: noqa: E402  # it changes to the project's folder before Prefect is imported

import json
import os
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any, get_args

from flows.command_line import ROOT, enter_project, parser, run

STARTED_IN = Path.cwd()

if __name__ == "__main__":
    enter_project()

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.results import promotion
from flows.results.remote import RemoteError
from flows.results.run_state import errors_as_states
from prefect_dvc import DvcProject, retry_connection
from tasks.inference.output_table import Format
from tasks.registry import champions

TABLE_KEY = "predictions"
OUT = "predictions"


def _name() -> str:
    paths = [Path(path).name or path for path in flow_run.parameters["paths"]]
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"predict {paths[0]}{more}" if paths else "predict"


@flow(name="predict", flow_run_name=_name)
@errors_as_states
def predict(
    paths: list[str],
    model: str | None = None,
    out: str = OUT,
    format: Format = "csv",  # noqa: A002  # the command's word, and the UI's
    start: str | None = None,
) -> State[Any]:
    """Classify images, and write the predictions.

    Args:
        paths: images, arrays of images, and folders of them.
        model: its name or path; none: the champion, or the best of the last run.
        out: the folder for the table, the contact sheet and the summary; a relative
            one is in the checkout.
        format: of the table.
        start: the folder that relative `paths` start from; none: the checkout.
    """
    with (
        chdir(ROOT),
        tempfile.NamedTemporaryFile(suffix=".paths") as listed,
        DvcProject(ROOT).commands("predict") as commands,
    ):
        if model in (None, champions.FILE.stem):
            _restore_champion()
        # The paths are in a file: a command line has no room for a million.
        listed.write(b"".join(os.fsencode(path) + b"\0" for path in paths))
        listed.flush()
        step = [sys.executable, "-m", "tasks.predict", "--list", listed.name]
        step += [f"--out={out}", f"--format={format}", f"--start={start or ROOT}"]
        step += [f"--model={model}"] if model else []
        message = commands.run(step, cwd=ROOT)[-1]
        _show(ROOT / out)
        return Completed(message=message)


def _restore_champion() -> None:
    """Restore the champion's file; without it the best model is used."""
    try:
        promotion.restore_champion()
    except RemoteError as reason:
        get_run_logger().warning("The champion is not available: %s", reason)


@retry_connection
def _show(out: Path) -> None:
    """Show the least certain images, and the number of images, in the UI."""
    summary = json.loads((out / "predictions.json").read_bytes())
    create_table_artifact(
        summary["least_certain"], key=TABLE_KEY, description=headline(summary)
    )


def headline(summary: dict[str, Any]) -> str:
    """Return how many images there were, and which model classified them."""
    return (
        f"The least certain of {summary['images']:,} images, read by "
        f"{summary['model']} ({summary['md5'][:8]}); {summary['set_aside']:,} were set "
        f"aside, {summary['unusable']:,} of them unusable."
    )


def main() -> None:
    """Run the flow from the command line."""
    command = parser("flows.predict", __doc__)
    command.add_argument("paths", nargs="+", metavar="PATH", help="a file or a folder")
    command.add_argument("--model", help="name or path; default: the champion")
    command.add_argument("--out", help="the folder to write to; default: predictions")
    command.add_argument("--format", choices=get_args(Format), default="csv")
    options = command.parse_args()
    options.out = str(STARTED_IN / options.out) if options.out else OUT
    run(predict, **vars(options), start=str(STARTED_IN))


if __name__ == "__main__":
    main()
