"""Run any DVC pipeline as a Prefect flow.

The names below are the public interface; every other module is private. They are
imported on first use, because Prefect takes seconds and a plan does not need it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_dvc.commands import Commands
    from prefect_dvc.errors import (
        CommandFailed,
        DependencyChanged,
        DeploymentError,
        PrefectDvcError,
        ProjectBusy,
        ProjectError,
        RunFailed,
        Stopped,
        TimedOut,
        describe_error,
    )
    from prefect_dvc.file_lock import try_lock
    from prefect_dvc.options import RunOptions
    from prefect_dvc.plan import Action, Change, Plan, PlannedStage
    from prefect_dvc.project import DvcProject
    from prefect_dvc.results import Outcome, RunResult, StageResult
    from prefect_dvc.server import retry_connection
    from prefect_dvc.stage_tasks import ProjectRun

__all__ = [
    "Action",
    "Change",
    "CommandFailed",
    "Commands",
    "DependencyChanged",
    "DeploymentError",
    "DvcProject",
    "Outcome",
    "Plan",
    "PlannedStage",
    "PrefectDvcError",
    "ProjectBusy",
    "ProjectError",
    "ProjectRun",
    "RunFailed",
    "RunOptions",
    "RunResult",
    "StageResult",
    "Stopped",
    "TimedOut",
    "describe_error",
    "retry_connection",
    "try_lock",
]

# In this order: those that import neither Prefect nor DVC first.
_MODULES = (
    *("errors", "file_lock", "options", "plan", "results"),
    *("server", "commands", "stage_tasks", "project"),
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            found = importlib.import_module(f"{__name__}.{module}")
            if hasattr(found, name):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
