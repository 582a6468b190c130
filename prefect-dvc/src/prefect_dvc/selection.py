"""The stages that a run visits, by the rules of `dvc repro`."""

from dataclasses import dataclass
from typing import Any

from dvc.dvcfile import PROJECT_FILE
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.stage import Stage

from prefect_dvc.errors import ProjectError
from prefect_dvc.options import RunOptions


@dataclass(frozen=True)
class SelectedStage:
    """A stage that a run visits, as DVC describes it.

    Attributes:
        upstream: names of the selected stages that must succeed before it starts.
        after: names of the selected stages that must have ended, well or not: a frozen
            stage reads their outputs. DVC's graph has no edge there, but DVC visits
            them first if dvc.yaml lists them first.
        feeds: names of the stages that read its outputs.
        description: `desc` in dvc.yaml.
        meta: `meta` in dvc.yaml, free for other tools to use.
    """

    upstream: tuple[str, ...]
    after: tuple[str, ...]
    feeds: tuple[str, ...]
    description: str
    meta: dict[str, Any]


def select(repo: Repo, options: RunOptions) -> dict[str, SelectedStage]:
    """Return the stages that a run visits, in an order that respects the graph.

    The repository must be locked.
    """
    whole_graph = repo.index.graph
    graph = get_active_graph(whole_graph)
    stages = _ordered(repo, graph, options)
    names = [stage.addressing for stage in stages]
    selected = {}
    for position, stage in enumerate(stages):
        needed = {up.addressing for up in graph.successors(stage)}
        read = {up.addressing for up in whole_graph.successors(stage)} - needed
        if options.only_targets:
            # `--single-item` runs the targets in the order given, without the graph.
            upstream = names[:position][-1:]
        else:
            upstream = [name for name in names if name in needed]
        selected[stage.addressing] = SelectedStage(
            upstream=tuple(upstream),
            after=tuple(name for name in names[:position] if name in read),
            feeds=tuple(sorted(down.addressing for down in graph.predecessors(stage))),
            description=stage.desc or "",
            meta=dict(stage.meta or {}),
        )
    return selected


def _ordered(repo: Repo, graph: Any, options: RunOptions) -> list[Stage]:
    targets = () if options.all_pipelines else options.targets or (PROJECT_FILE,)
    stages: list[Stage] = collect_stages(
        repo, targets, recursive=options.recursive, glob=options.glob
    )
    for stage in stages:
        if stage not in graph:
            raise ProjectError(
                f"{stage.addressing!r} is not a stage of this project; choose one that "
                "`dvc stage list --all` shows."
            )
    if options.only_targets:
        return stages
    return plan_repro(  # type: ignore[no-any-return]  # DVC is not typed
        graph,
        stages or None,
        pipeline=options.pipeline,
        downstream=options.downstream
        and not (options.pipeline or options.all_pipelines),
    )
