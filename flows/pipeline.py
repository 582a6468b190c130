"""The lesson as a Prefect flow: `python -m flows.pipeline [TARGET ...]`.

The stages and their order are those of dvc.yaml; prefect-dvc runs each as a task. After
them the best model is compared with the champion, the results are shown in the Prefect
UI, and DVC pushes them to its remote. Exit status: 0 if every stage is up to date now.
"""

import argparse
import gc
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    # Looking for garbage during the imports finds none and takes a fifth of their time.
    gc.disable()
    from prefect_dvc import start_preloading

    # Prefect reads this project's settings from the current directory, when imported.
    os.chdir(ROOT)
    start_preloading(ROOT)

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows.results import artifacts, promotion, run_name, run_state
from flows.results.push import Pusher, When
from flows.results.remote import RemoteError
from prefect_dvc import DvcProject, ProjectError, run_flow
from tasks.runtime.params import BadInput

# A stage's name, with a key of params.yaml in it, becomes a word of a shell command.
WORD = re.compile(r"[\w@.-]+")


@flow(name="mnist-sgd", flow_run_name=run_name.begin)
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
    project = DvcProject(ROOT, wait=wait)
    try:
        pusher = Pusher(ROOT, push, targets or [], promotion.to_push)
        with project.open(targets, force=force, keep_going=True) as run:
            _refuse_shell_words(run.names)
            run.submit_all()
            state = run_state.of_stages(run.wait())
            if state.is_completed() and "evaluate" in run:
                gate = run.after(
                    "evaluate",
                    promotion.NAME,
                    promotion.promote,
                    description=promotion.DESCRIPTION,
                )
                gate.wait()
                state = run_state.with_gate(state, gate.state)
                run_name.finish(ROOT)
                artifacts.show_card(ROOT)
            artifacts.publish(ROOT)
            return pusher.finish(run, state)
    except (BadInput, ProjectError, RemoteError) as error:
        return Failed(message=str(error))


def _refuse_shell_words(names: Iterable[str]) -> None:
    """Refuse a key in params.yaml that a shell would read as more than one word.

    Raises:
        ProjectError: a stage's name holds such a key.
    """
    for name in names:
        if not WORD.fullmatch(name):
            raise ProjectError(
                f"Stage {name!r} has a name that a shell would take for more than a "
                "word; rename it, in params.yaml if dvc.yaml takes it from there."
            )


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
    run_flow(pipeline, **vars(arguments))


if __name__ == "__main__":
    main()
