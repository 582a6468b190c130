"""The lesson as a Prefect flow: `python -m flows.pipeline [TARGET ...]`.

The same graph as in dvc.yaml, which is checked before anything runs; the same commands;
the same notion of what is unchanged. Exit status: 0 if every stage is up to date now.
"""

import argparse
import gc
import os
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    # To look for garbage among imports finds none, and takes a fifth of their time.
    gc.disable()
    from prefect_dvc import dvc_repo, forkserver

    # Prefect reads this project's settings from the current directory, when imported.
    os.chdir(ROOT)
    if not dvc_repo.complete(ROOT):
        # Much is to be done: the stages' imports go on while Prefect's are made.
        forkserver.warm_up()

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.results import artifacts, promotion, run_name
from flows.results.push import Pusher, When
from flows.results.remote import RemoteError
from prefect_dvc import command_line, run_state
from prefect_dvc.dvc_repo import LedgerError
from prefect_dvc.plan import Planner, Step, check
from prefect_dvc.stage_tasks import opened
from tasks.runtime.params import BadInput

# Tasks wait in a thread each until their turn comes; cores are shared out elsewhere.
MOST_TASKS = 64


def plan(run: Planner[Step]) -> None:
    """The lesson's path: every step after those whose results it reads."""
    raw = run.step("download")
    checked = run.step("validate", raw)
    pixels = run.step("normalize", raw, checked)
    regression = run.step("baseline", pixels)
    networks = run.each("train", pixels)
    scores = run.step("evaluate", pixels, regression, *networks)
    run.step("report", pixels, regression, *networks, scores)


@flow(
    name="mnist-sgd",
    flow_run_name=run_name.begin,
    task_runner=ThreadPoolTaskRunner[Any](max_workers=MOST_TASKS),  # type: ignore[arg-type]  # Prefect's own runner, but its parameter is invariant
)
def pipeline(
    targets: list[str] | None = None,
    *,
    force: bool = False,
    wait: bool = True,
    push: When = "auto",
) -> State[Any]:
    """Bring the whole pipeline, or `targets` and what they need, up to date.

    Args:
        targets: stages as `dvc repro` names them; none means all.
        force: run them even if unchanged.
        wait: wait while another flow or DVC command works in this checkout; otherwise
            fail at once.
        push: `auto` copies the results to DVC's default remote if there is one, and
            only warns if that fails; `always` fails then; `never` does not try.
    """
    try:
        pusher = Pusher(ROOT, push, targets or [], promotion.to_push)
        with opened(ROOT, targets or [], force=force, wait=wait) as (run, stages):
            check(plan, stages)
            plan(run)
            state = run_state.of_stages(run.finish())
            if state.is_completed() and run.chose("evaluate"):
                gate = run.beside(
                    promotion.NAME, promotion.DESCRIPTION, promotion.promote
                )
                state = run_state.with_gate(state, gate)
                run_name.finish(ROOT)
                artifacts.show_card(ROOT)
            artifacts.publish(ROOT)
            return pusher.finish(run, state)
    except (BadInput, LedgerError, RemoteError) as error:
        return Failed(message=str(error))


def main() -> None:
    """Run the flow from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.pipeline", description=__doc__
    )
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help="stages; all if none"
    )
    parser.add_argument("--force", action="store_true", help="run unchanged stages too")
    parser.add_argument(
        "--no-wait",
        dest="wait",
        action="store_false",
        help="fail if another flow or DVC command works in this checkout",
    )
    parser.add_argument(
        "--push",
        choices=get_args(When),
        default="auto",
        help="whether to push the results to DVC's default remote",
    )
    arguments = parser.parse_args()
    gc.freeze()
    gc.enable()
    command_line.run(pipeline, **vars(arguments))


if __name__ == "__main__":
    main()
