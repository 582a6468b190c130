"""Restore an earlier champion, as a flow: `python -m flows.rollback [--to MD5]`.

Without `--to` it is the one that the present champion replaced. Its file comes from
DVC's cache or remote, its record and card from `models/champions.jsonl`. The gate
refuses the replaced model until it is restored in the same way.

Exit status: 0 if the model asked for is champion now.
"""

from contextlib import chdir
from datetime import UTC, datetime
from typing import Any

from flows.command_line import ROOT, enter_project, parser, run

if __name__ == "__main__":
    enter_project()

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.results import artifacts, remote
from flows.results.run_state import errors_as_states
from prefect_dvc import DvcProject
from tasks.registry import champions
from tasks.registry.champions import Event, Record
from tasks.runtime.params import BadInput


def _name() -> str:
    to = flow_run.parameters.get("to")
    return f"rollback to {to}" if to else "rollback"


@flow(name="rollback", flow_run_name=_name)
@errors_as_states
def rollback(to: str | None = None) -> State[Any]:
    """Restore an earlier champion, and keep the present one out.

    Args:
        to: the first digits of the MD5 of a champion in `models/champions.jsonl`; none:
            the one that the present champion replaced.
    """
    with chdir(ROOT), DvcProject(ROOT).locked():
        now, chosen = _chosen(champions.history(), to)
        if chosen.md5 == now.md5:
            message = f"{_title(now)} is champion already."
            return Completed(name="Cached", message=message)
        event = Event(
            event="put back",
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            instead_of=now.md5,
            champion=chosen,
        )
        champions.crown(event, remote.fetch_object(ROOT, chosen.md5))
        artifacts.show_card(ROOT)
    message = f"{_title(chosen)} is champion again, not {_title(now)}."
    return Completed(message=message)


def _chosen(history: list[Event], to: str | None) -> tuple[Record, Record]:
    """Return the record of the present champion, and of the one to restore."""
    if not history:
        raise BadInput("There is no champion yet to restore.")
    now = history[-1].champion
    wanted = now.replaces if to is None else to
    if wanted is None:
        raise BadInput(f"{_title(now)} is the first champion; there is none before it.")
    records = {event.champion.md5: event.champion for event in history}
    found = [record for md5, record in records.items() if md5.startswith(wanted)]
    if len(found) != 1:
        raise BadInput(
            f"{len(found)} champions in {champions.HISTORY} have an MD5 that starts "
            f"with {wanted!r}; give all digits of one of them."
        )
    return now, found[0]


def _title(record: Record) -> str:
    return f"{record.model} ({record.md5[:8]}, {record.valid.accuracy:.4f})"


def main() -> None:
    """Run the flow from the command line."""
    command = parser("flows.rollback", __doc__)
    command.add_argument(
        "--to", metavar="MD5", help="an earlier champion: the first digits of its MD5"
    )
    run(rollback, **vars(command.parse_args()))


if __name__ == "__main__":
    main()
