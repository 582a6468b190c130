"""The command line: `prefect-dvc plan | run | why | deploy`.

Exit status: 0 if all is well; 1 if a stage failed or something was refused, with one
sentence; 130 if Ctrl-C stopped a run.
"""

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_type_hints

from prefect_dvc.errors import PrefectDvcError, ProjectError
from prefect_dvc.options import RunOptions
from prefect_dvc.plan import Action, Plan

# The command `plan` does not take these options: they set how stages run.
EXECUTION = {"keep_going", "ignore_errors", "pull", "no_commit"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and exit."""
    # A collection during the imports finds nothing and takes a fifth of their time.
    gc.disable()
    parsed = _parser().parse_args(arguments)
    try:
        status = parsed.command(parsed)
    except PrefectDvcError as error:
        print(f"prefect-dvc: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C; run it again to continue.", file=sys.stderr)
        status = 130
    sys.exit(status)


def _plan(parsed: argparse.Namespace) -> int:
    plan = _planned(_options(parsed), parsed)
    if parsed.json:
        print(json.dumps([stage.as_dict() for stage in plan], indent=2))
    else:
        print(plan)
    return 0


def _why(parsed: argparse.Namespace) -> int:
    plan = _planned(RunOptions.of(parsed.stage), parsed)
    named = [
        stage
        for stage in plan
        if parsed.stage in (stage.name, stage.name.partition("@")[0])
    ]
    for stage in named or plan:
        print(f"{stage.name}: {stage.action}")
        for change in stage.changes:
            print(f"  {change}")
    return 0


def _run(parsed: argparse.Namespace) -> int:
    # A plan finds mistakes in dvc.yaml, or that there is nothing to do, before the
    # import of Prefect, which takes seconds.
    options = _options(parsed)
    plan = _planned(options, parsed)
    if parsed.dry:
        return _dry(plan)
    if all(stage.action is Action.UNCHANGED for stage in plan):
        print(plan)
        print("Nothing to run: every stage is unchanged.")
        return 0
    return _run_flow(options, parsed)


def _dry(plan: Plan) -> int:
    """Print the commands that would run, like `dvc repro --dry`."""
    ends = {
        Action.UNCHANGED: "is unchanged.",
        Action.RESTORE: "would be restored from the cache.",
        Action.RUN: "would run:",
    }
    for stage in plan:
        print(f"Stage {stage.name!r} {ends[stage.action]}")
        if stage.action is Action.RUN:
            for command in stage.commands:
                print(f"> {command}")
    return 0


def _run_flow(options: RunOptions, parsed: argparse.Namespace) -> int:
    from prefect_dvc.runner import run_in_terminal  # noqa: PLC0415  # imports Prefect

    gc.freeze()
    gc.enable()
    state = run_in_terminal(
        Path.cwd(),
        options,
        jobs=parsed.jobs,
        wait=parsed.wait,
        verbose=parsed.verbose,
    )
    if not state.is_completed():
        print(f"prefect-dvc: {state.message}", file=sys.stderr)
        return 1
    print(state.message)
    return 0


def _deploy(parsed: argparse.Namespace) -> int:
    from prefect_dvc.deploy import deploy  # noqa: PLC0415  # imports Prefect

    if parsed.timezone and not parsed.cron:
        raise ProjectError("--timezone needs --cron.")
    print(
        deploy(
            Path.cwd(),
            name=parsed.name or Path.cwd().name,
            cron=parsed.cron,
            timezone=parsed.timezone,
            pool=parsed.pool,
            options=_options(parsed),
            jobs=parsed.jobs,
        )
    )
    return 0


def _planned(options: RunOptions, parsed: argparse.Namespace) -> Plan:
    from prefect_dvc.dvc_repo import plan  # noqa: PLC0415  # imports DVC, not Prefect

    return plan(Path.cwd(), options, wait=parsed.wait)


def _options(parsed: argparse.Namespace) -> RunOptions:
    given = {name: getattr(parsed, name, False) for name in _flags()}
    return RunOptions.of(parsed.targets, **given)


def _flags() -> dict[str, tuple[str, ...]]:
    """Return each option of `RunOptions` with its help, and its short form if any."""
    hints = get_type_hints(RunOptions, include_extras=True)
    return {
        name: hint.__metadata__ for name, hint in hints.items() if name != "targets"
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prefect-dvc",
        description="Run the DVC project in the current folder as a Prefect flow.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    plan = commands.add_parser("plan", help="say what would run, and why")
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.set_defaults(command=_plan)
    run = commands.add_parser("run", help="run the stages that changed")
    run.add_argument("--dry", action="store_true", help="only print what would run")
    run.add_argument("-v", "--verbose", action="store_true", help="show all output")
    run.set_defaults(command=_run)
    why = commands.add_parser("why", help="say why a stage would run")
    why.add_argument("stage", metavar="STAGE")
    why.set_defaults(command=_why)
    deploy = commands.add_parser("deploy", help="make a deployment, for a worker")
    deploy.add_argument("--cron", help='when to run, such as "0 3 * * *"')
    deploy.add_argument("--timezone", help="of the cron, such as Europe/London")
    deploy.add_argument("--name", help="of the deployment; the folder's name if none")
    deploy.add_argument("--pool", default="dvc", help="work pool; `dvc` if not given")
    deploy.set_defaults(command=_deploy)
    for command in (plan, run, deploy):
        _add_targets(command, without=EXECUTION if command is plan else set())
    for command in (run, deploy):
        command.add_argument(
            *("-j", "--jobs"),
            type=int,
            metavar="N",
            help="how many stages run at a time; the number of cores if not given",
        )
    for command in (plan, run, why):
        command.add_argument(
            "--no-wait",
            dest="wait",
            action="store_false",
            help="fail if another run or DVC command works in the project",
        )
    return parser


def _add_targets(parser: argparse.ArgumentParser, *, without: set[str]) -> None:
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="stages, or paths of dvc.yaml or .dvc files; dvc.yaml if none",
    )
    for name, (text, *short) in _flags().items():
        if name not in without:
            flag = f"--{name.replace('_', '-')}"
            parser.add_argument(*short, flag, action="store_true", help=text)


if __name__ == "__main__":
    main()
