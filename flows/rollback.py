"""Put an earlier champion back, as a flow: `python -m flows.rollback [--to MD5]`.

Without `--to` it is the one that the champion of today replaced. Its file comes from
DVC's cache or remote, its record and card from `models/champions.jsonl`. The gate keeps
the one that had to go out until it is put back in the same way.
Exit status: 0 if the model asked for is champion now.
"""
# ruff: noqa: E402  # it changes to the project's folder before Prefect is imported

import argparse
import os
import tempfile
from contextlib import chdir
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    # Prefect reads this project's settings from the current directory, when imported.
    os.chdir(ROOT)

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.results import artifacts, remote
from prefect_dvc import DvcProject, ProjectError, run_flow
from tasks.registry import champions
from tasks.registry.champions import Event, Record
from tasks.runtime.params import BadInput


def _name() -> str:
    to = flow_run.parameters.get("to")
    return f"rollback to {to}" if to else "rollback"


@flow(name="rollback", flow_run_name=_name)
def rollback(to: str | None = None) -> State[Any]:
    """Put an earlier champion back, and keep the present one out.

    Args:
        to: the beginning of the MD5 of any champion in `models/champions.jsonl`; none
            means the one that the present champion replaced.
    """
    try:
        with chdir(ROOT), DvcProject(ROOT).locked():
            state = _put_back(to)
            artifacts.show_card(ROOT)
            return state
    except (BadInput, ProjectError, remote.RemoteError) as error:
        return Failed(message=str(error))


def _put_back(to: str | None) -> State[Any]:
    now, chosen = _chosen(champions.history(), to)
    if chosen.md5 == now.md5:
        return Completed(name="Cached", message=f"{_title(now)} is champion already.")
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, champions.FILE.name)
        remote.fetch_object(ROOT, chosen.md5, found)
        event = Event(
            event="put back",
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            instead_of=now.md5,
            champion=chosen,
        )
        champions.crown(event, found.read_bytes())
    return Completed(message=f"{_title(chosen)} is champion again, not {_title(now)}.")


def _chosen(history: list[Event], to: str | None) -> tuple[Record, Record]:
    """Return the record of the champion, and of the one to put in its place.

    Raises:
        BadInput: there is none, or `to` tells of none or of several.
    """
    known = {event.champion.md5: event.champion for event in history}
    if not history:
        raise BadInput("There is no champion yet, so there is none to put back.")
    now = history[-1].champion
    if to is None and now.replaces is None:
        raise BadInput(f"{_title(now)} is the first champion: none was before it.")
    asked = now.replaces if to is None else to
    found = [record for md5, record in known.items() if md5.startswith(str(asked))]
    if len(found) != 1:
        raise BadInput(
            f"{len(found)} champions in {champions.HISTORY} have an MD5 that begins "
            f"with {asked!r}; give the whole of one that it has."
        )
    return now, found[0]


def _title(record: Record) -> str:
    return f"{record.model} ({record.md5[:8]}, {record.valid.accuracy:.4f})"


def main() -> None:
    """Run the flow from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.rollback",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--to", metavar="MD5", help="any earlier champion: how its MD5 begins"
    )
    arguments = parser.parse_args()
    run_flow(rollback, to=arguments.to)


if __name__ == "__main__":
    main()
