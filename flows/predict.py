"""Classify images, as a flow: `python -m flows.predict PATH... [--model NAME]`.

PNG, JPEG, TIFF, IDX, .npy, .npz, or folders of them. The champion reads them, or the
best model where there is no champion. The table of predictions, a contact sheet of the
least certain, and a note of which model it was, are written into `predictions/`.
Exit status: 0 if they are; an image that can't be used is a row with its reason.
"""
# ruff: noqa: E402  # it changes to the project's folder before Prefect is imported

import argparse
import json
import os
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).resolve().parent.parent
HERE = Path.cwd()

if __name__ == "__main__":
    # Prefect reads this project's settings from the current directory, when imported.
    os.chdir(ROOT)

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.results import promotion, remote
from prefect_dvc import CommandFailed, DvcProject, Stopped, retry_connection, run_flow
from tasks.inference.output_table import Format
from tasks.registry import champions
from tasks.runtime.params import BadInput

TABLE_KEY = "predictions"
OUT = "predictions"


def _name() -> str:
    paths = [Path(path).name or path for path in flow_run.parameters["paths"]]
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"predict {paths[0]}{more}" if paths else "predict"


@flow(name="predict", flow_run_name=_name)
def predict(
    paths: list[str],
    model: str | None = None,
    out: str = OUT,
    format: Format = "csv",  # noqa: A002  # as users call it, here and in the UI
    start: str | None = None,
) -> State[Any]:
    """Classify images, and write down what they are.

    Args:
        paths: images, arrays of images, and folders of them.
        model: its name or path; the champion, or the best of the last run, if none.
        out: the folder for the table, the contact sheet and the summary; a relative
            one is in the checkout.
        format: of the table.
        start: the folder in which relative `paths` begin; the checkout if none.
    """
    with chdir(ROOT):
        try:
            if model in (None, champions.FILE.stem):
                _recover()
            state = _predict(paths, model, out, format, start, return_state=True)
        except BadInput as error:
            return Failed(message=str(error))
    # Not the task's own state, of which Prefect would make a count of tasks.
    ended = Completed if state.is_completed() else Failed
    return ended(message=state.message)


def _recover() -> None:
    """Get the champion's file, if it is not there; without it the best model reads."""
    champion = champions.current()
    try:
        if champion:
            promotion.recover(champion)
    except remote.RemoteError as reason:
        get_run_logger().warning("The champion can't be had: %s", reason)


@task(name="predict", task_run_name="predict", cache_policy=NO_CACHE)
def _predict(
    paths: list[str], model: str | None, out: str, kind: Format, start: str | None
) -> State[Any]:
    """Run the step in a process of its own, and show what it found."""
    with tempfile.NamedTemporaryFile(suffix=".paths") as listed:
        # In a file, for no command line has room for a million of them.
        listed.write(b"".join(os.fsencode(path) + b"\0" for path in paths))
        listed.flush()
        words = [sys.executable, "-m", "tasks.predict", "--list", listed.name]
        words += [f"--out={out}", f"--format={kind}", f"--start={start or ROOT}"]
        state = _run(words + ([f"--model={model}"] if model else []))
    if state.is_completed():
        _show(ROOT / out)
    return state


def _run(words: list[str]) -> State[Any]:
    try:
        with DvcProject(ROOT).commands("predict") as commands:
            lines = commands.run(words, cwd=ROOT)
    except CommandFailed as failure:
        return Failed(message=failure.reason)
    except Stopped:
        return Failed(name="Stopped", message="predict was stopped with the flow.")
    return Completed(message=lines[-1])


@retry_connection
def _show(out: Path) -> None:
    """Show the least certain images, and how many there were, in the UI."""
    summary = json.loads((out / "predictions.json").read_bytes())
    create_table_artifact(
        summary["least_certain"], key=TABLE_KEY, description=headline(summary)
    )


def headline(summary: dict[str, Any]) -> str:
    """Return how many images there were, and which model read them."""
    return (
        f"The least certain of {summary['images']:,} images, read by "
        f"{summary['model']} ({summary['md5'][:8]}); {summary['set_aside']:,} were set "
        f"aside, {summary['unusable']:,} of them unusable."
    )


def main() -> None:
    """Run the flow from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file or a folder")
    parser.add_argument("--model", help="a model's name, or a path")
    parser.add_argument("--out", help="the folder to write to; `predictions` if none")
    parser.add_argument("--format", choices=get_args(Format), default="csv")
    arguments = parser.parse_args()
    run_flow(
        predict,
        paths=arguments.paths,
        model=arguments.model,
        out=str(HERE / arguments.out) if arguments.out else OUT,
        format=arguments.format,
        start=str(HERE),
    )


if __name__ == "__main__":
    main()
