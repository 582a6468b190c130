"""The lesson as a Prefect flow: `python -m flows.pipeline [TARGET ...]`.

The stages and their order are those of dvc.yaml; prefect-dvc runs each as a task. Then
the best model is compared with the champion, the results are shown in the Prefect UI,
and DVC pushes them to its remote. Exit status: 0 if every stage is up to date now.
"""

import re
from collections.abc import Iterable
from typing import Any, get_args

from flows.command_line import ROOT, enter_project, parser, run

if __name__ == "__main__":
    enter_project()

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.results import artifacts, promotion, run_state
from flows.results.push import Pusher, When
from flows.results.run_state import errors_as_states
from prefect_dvc import DvcProject, ProjectError

# A stage's name may contain a key of params.yaml, and is a word of a shell command.
WORD = re.compile(r"[\w@.-]+")


@flow(name="mnist-sgd", flow_run_name=run_state.initial_name)
@errors_as_states
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
    pusher = Pusher(ROOT, push, targets or [], promotion.champion_md5)
    with DvcProject(ROOT, wait=wait).open(
        targets, force=force, keep_going=True
    ) as stages:
        _refuse_shell_words(stages.names)
        stages.submit_all()
        result = stages.wait()
        end = Completed if result.ok else Failed
        state: State[Any] = end(message=result.summary)
        if result.ok and "evaluate" in stages:
            gate = stages.after(
                "evaluate",
                "promote",
                promotion.promote,
                description="Make the best model the champion, if it passes the gate.",
            )
            gate.wait()
            state = run_state.with_gate(state, gate.state)
            run_state.add_result(ROOT)
            artifacts.show_card(ROOT)
        artifacts.publish(ROOT)
        return pusher.finish(stages, state)


def _refuse_shell_words(names: Iterable[str]) -> None:
    """Refuse stage names that a shell would read as more than one word."""
    for name in names:
        if not WORD.fullmatch(name):
            raise ProjectError(
                f"Stage {name!r} has a name that a shell would read as more than one "
                "word; rename it, in params.yaml if dvc.yaml takes it from there."
            )


def main() -> None:
    """Run the flow from the command line."""
    command = parser("flows.pipeline", __doc__)
    command.add_argument(
        "targets", nargs="*", metavar="TARGET", help="stages; default: all"
    )
    command.add_argument(
        "--force", action="store_true", help="run unchanged stages too"
    )
    command.add_argument(
        "--no-wait",
        dest="wait",
        action="store_false",
        help="fail if another flow or DVC command works in this checkout",
    )
    command.add_argument(
        "--push",
        choices=get_args(When),
        default="auto",
        help="whether to push the results to DVC's default remote",
    )
    run(pipeline, **vars(command.parse_args()))


if __name__ == "__main__":
    main()
