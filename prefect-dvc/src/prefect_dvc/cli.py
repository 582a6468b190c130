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

from prefect_dvc.errors import PrefectDvcError, ProjectError
from prefect_dvc.options import RunOptions
from prefect_dvc.plan import Action, Plan

# Option of `dvc repro`, its short form, its help there.
SELECTION = [
    ("glob", None, "targets may hold shell-style wildcards"),
    ("recursive", "-R", "run all stages in the folders named as targets"),
    ("single-item", "-s", "run only the targets, not the stages that they need"),
    ("downstream", None, "start from the targets, and run the stages that need them"),
    ("pipeline", "-p", "run the whole pipelines that the targets belong to"),
    ("all-pipelines", "-P", "run all pipelines of the repository"),
    ("force", "-f", "run stages even if they are unchanged"),
    ("force-downstream", None, "run the stages that need a changed one"),
    ("allow-missing", None, "skip stages with missing data but no other changes"),
    ("no-run-cache", None, "run commands even if the run cache has their result"),
]
EXECUTION = [
    ("keep-going", "-k", "after a failure, run the stages that don't need it"),
    ("ignore-errors", None, "ignore the errors of stages"),
    ("pull", None, "download missing data from the default remote"),
    ("no-commit", None, "don't put outputs into the cache"),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and exit."""
    # Looking for garbage during the imports finds none and takes time.
    gc.disable()
    asked = _parser().parse_args(arguments)
    try:
        status = asked.command(asked)
    except PrefectDvcError as error:
        print(f"prefect-dvc: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C; run it again to continue.", file=sys.stderr)
        status = 130
    sys.exit(status)


def _plan(asked: argparse.Namespace) -> int:
    found = _planned(asked, _options(asked))
    if asked.json:
        print(json.dumps([stage.as_dict() for stage in found], indent=2))
    else:
        print(found)
    return 0


def _why(asked: argparse.Namespace) -> int:
    options = RunOptions.of(asked.stage)
    found = _planned(asked, options)
    chosen = [
        stage
        for stage in found
        if asked.stage in (stage.name, stage.name.partition("@")[0])
    ] or list(found)
    for stage in chosen:
        print(f"{stage.name}: {stage.action}")
        for change in stage.changes:
            print(f"  {change}")
    return 0


def _run(asked: argparse.Namespace) -> int:
    options = _options(asked)
    if asked.dry:
        return _dry(asked, options)
    # Finds mistakes in dvc.yaml, and that there is nothing to do, before the seconds
    # that Prefect takes to start.
    found = _planned(asked, options)
    if all(stage.action is Action.UNCHANGED for stage in found):
        print(found)
        print("Nothing to run: every stage is unchanged.")
        return 0
    return _run_flow(asked, options)


def _run_flow(asked: argparse.Namespace, options: RunOptions) -> int:
    from prefect_dvc.preload import start_preloading  # noqa: PLC0415  # before Prefect

    start_preloading(Path.cwd())
    from prefect.settings import (  # noqa: PLC0415  # takes a second
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_SERVER_ANALYTICS_ENABLED,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
        temporary_settings,
    )

    from prefect_dvc.display import shown  # noqa: PLC0415  # imports Prefect
    from prefect_dvc.runner import run_project  # noqa: PLC0415  # as above
    from prefect_dvc.server import connected  # noqa: PLC0415  # as above

    gc.freeze()
    gc.enable()
    settings = temporary_settings(
        {
            # Heartbeats show that a run on a worker is alive; here its user sees it.
            # The flow would wait for their thread, up to a second.
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            # A temporary server needs longer than 20 s on a busy machine, and reports
            # an error where it can't send its statistics.
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 90,
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
        }
    )
    with connected(), settings, shown(verbose=asked.verbose) as events:
        state = run_project(
            str(Path.cwd()),
            list(options.targets) or None,
            options.enabled(),
            asked.jobs,
            wait=asked.wait,
            events=events,
            return_state=True,
        )
    if not state.is_completed():
        print(f"prefect-dvc: {state.message}", file=sys.stderr)
        return 1
    print(state.message)
    return 0


def _dry(asked: argparse.Namespace, options: RunOptions) -> int:
    """Print the commands that would run, like `dvc repro --dry`."""
    for stage in _planned(asked, options):
        if stage.action is Action.UNCHANGED:
            print(f"Stage {stage.name!r} is unchanged.")
        elif stage.action is Action.RESTORE:
            print(f"Stage {stage.name!r} would be restored from the cache.")
        else:
            print(f"Stage {stage.name!r} would run:")
            for command in stage.commands:
                print(f"> {command}")
    return 0


def _deploy(asked: argparse.Namespace) -> int:
    from prefect_dvc.deploy import deploy  # noqa: PLC0415  # imports Prefect

    if asked.timezone and not asked.cron:
        raise ProjectError("--timezone needs --cron.")
    print(
        deploy(
            Path.cwd(),
            name=asked.name or Path.cwd().name,
            cron=asked.cron,
            timezone=asked.timezone,
            pool=asked.pool,
            options=_options(asked),
            jobs=asked.jobs,
        )
    )
    return 0


def _planned(asked: argparse.Namespace, options: RunOptions) -> Plan:
    from prefect_dvc.planning import plan  # noqa: PLC0415  # imports DVC, not Prefect

    return plan(Path.cwd(), options, wait=asked.wait)


def _options(asked: argparse.Namespace) -> RunOptions:
    names = [name.replace("-", "_") for name, *_ in [*SELECTION, *EXECUTION]]
    return RunOptions.of(
        asked.targets, **{name: getattr(asked, name, False) for name in names}
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prefect-dvc",
        description="Run the DVC project in the current folder as a Prefect flow.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    plan = commands.add_parser("plan", help="say what would run, and why")
    _add_targets(plan, SELECTION)
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.set_defaults(command=_plan)
    run = commands.add_parser("run", help="run the stages that changed")
    _add_targets(run, [*SELECTION, *EXECUTION])
    run.add_argument("--dry", action="store_true", help="only print what would run")
    run.add_argument("-v", "--verbose", action="store_true", help="show all output")
    _add_jobs(run)
    run.set_defaults(command=_run)
    why = commands.add_parser("why", help="say why a stage would run")
    why.add_argument("stage", metavar="STAGE")
    why.set_defaults(command=_why)
    deploy = commands.add_parser("deploy", help="make a deployment, for a worker")
    _add_targets(deploy, [*SELECTION, *EXECUTION])
    deploy.add_argument("--cron", help='when to run, such as "0 3 * * *"')
    deploy.add_argument("--timezone", help="of the cron, such as Europe/London")
    deploy.add_argument("--name", help="of the deployment; the folder's name if none")
    deploy.add_argument("--pool", default="dvc", help="work pool; `dvc` if not given")
    _add_jobs(deploy)
    deploy.set_defaults(command=_deploy)
    for one in (plan, run, why):
        one.add_argument(
            "--no-wait",
            dest="wait",
            action="store_false",
            help="fail if another run or DVC command works in the project",
        )
    return parser


def _add_targets(
    parser: argparse.ArgumentParser, options: list[tuple[str, str | None, str]]
) -> None:
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="stages, or paths of dvc.yaml or .dvc files; dvc.yaml if none",
    )
    for name, short, text in options:
        flags = [flag for flag in (short, f"--{name}") if flag]
        parser.add_argument(*flags, action="store_true", help=text)


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-j",
        "--jobs",
        type=int,
        metavar="N",
        help="how many stages run at a time; the number of cores if not given",
    )


if __name__ == "__main__":
    main()
