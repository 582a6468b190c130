"""A flow's plan: the stages in the order of the data, written down once.

A plan is a function of a `Planner`. Given a `Trace` it only says what comes after what,
which `check` holds to dvc.yaml; given the stages themselves, it runs them.
"""

import re
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from prefect_dvc.dvc_repo import LedgerError, Plan

Step = TypeVar("Step")

WORD = re.compile(r"[\w@.-]+")


class Planner(Protocol[Step]):
    """What a plan is written against: `Trace` to look at it, `Stages` to run it."""

    def step(self, name: str, *after: Step) -> Step:
        """Add stage `name`, which reads what the steps `after` made."""
        ...

    def each(self, name: str, *after: Step) -> list[Step]:
        """Add every stage that dvc.yaml makes of the template `name`."""
        ...


class Trace:
    """A planner that only writes down the edges of a plan."""

    def __init__(self, stages: Mapping[str, Plan]) -> None:
        self._stages = stages
        self.edges: dict[str, frozenset[str]] = {}

    def step(self, name: str, *after: str) -> str:
        """Note the edges into stage `name`."""
        self.edges[name] = frozenset(after)
        return name

    def each(self, name: str, *after: str) -> list[str]:
        """Note the edges into every stage of the template `name`."""
        return [self.step(stage, *after) for stage in of_template(name, self._stages)]


def check(plan: Callable[[Trace], object], stages: Mapping[str, Plan]) -> None:
    """Hold a flow's plan to the graph in dvc.yaml.

    Raises:
        LedgerError: a stage, or an edge between two, stands in one of them only; or a
            stage has a name that a shell would not take for one word.
    """
    for name in stages:
        # dvc.yaml makes names of keys in params.yaml, and puts those into commands.
        if not WORD.fullmatch(name):
            raise LedgerError(
                f"Stage {name!r} has a name that a shell would take for more than a "
                "word; rename it, in params.yaml if dvc.yaml has it from there."
            )
    trace = Trace(stages)
    plan(trace)
    graph = {name: stage.after for name, stage in stages.items()}
    for name in sorted(graph.keys() | trace.edges.keys()):
        in_flow, in_dvc = trace.edges.get(name), graph.get(name)
        if in_flow != in_dvc:
            raise LedgerError(
                f"The flow and dvc.yaml differ in stage {name!r}: it comes after "
                f"{_names(in_flow)} in the flow, after {_names(in_dvc)} in dvc.yaml; "
                "make the two the same."
            )


def of_template(name: str, stages: Mapping[str, Plan]) -> list[str]:
    """Return the stages that dvc.yaml's `foreach` or `matrix` makes of `name`."""
    return [stage for stage in stages if stage.startswith(f"{name}@")]


def _names(stages: frozenset[str] | None) -> str:
    if stages is None:
        return "nothing (it is not there)"
    return ", ".join(sorted(stages)) or "nothing"
