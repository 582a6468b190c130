"""The differences between a stage and its record in dvc.lock.

`dvc.stage.Stage.changed` answers yes or no. These functions compare the same things
(command, dependencies, parameters, outputs), and return every difference with the old
and the new value.
"""

import json
from collections.abc import Collection, Iterator
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.stage import PipelineStage, Stage

from prefect_dvc.plan import Change

MD5_DIGITS = 8
NEVER_RAN = Change("stage", "", "has never run")
HOW = {
    "deleted": "is missing",
    "modified": "changed",
    "new": "is new",
    "not in cache": "is not in the cache",
}
MISSING = {HOW["deleted"], HOW["not in cache"]}


def changes(
    stage: Stage,
    *,
    skip: Collection[Any] = (),
    allow_missing: bool = False,
    upstream: Collection[Stage] = (),
) -> list[Change]:
    """Return the differences between a stage and dvc.lock; empty if DVC would skip it.

    Args:
        stage: freshly loaded.
        skip: dependencies that are not compared.
        allow_missing: missing data that is otherwise unchanged is not a difference.
        upstream: the stages that it reads from; needed with `allow_missing`.
    """
    if isinstance(stage, PipelineStage) and _recorded(stage) is None:
        return [NEVER_RAN]
    found = [*_command(stage)]
    if not stage.frozen:
        made = {out.fs_path: out.hash_info for up in upstream for out in up.outs}
        for dep in stage.deps:
            if dep in skip:
                continue
            may_miss = allow_missing and (
                made.get(dep.fs_path, dep.hash_info) == dep.hash_info
            )
            found += [
                change
                for change in _dependency(dep)
                if not (may_miss and change.how == HOW["deleted"])
            ]
    found += [
        change
        for out in stage.outs
        for change in _file("output", out)
        if not (allow_missing and change.how in MISSING)
    ]
    return found


def _recorded(stage: PipelineStage) -> dict[str, Any] | None:
    """Return the entry in dvc.lock that a stage was loaded with; None if none."""
    stages: dict[str, Any] = stage.dvcfile.lockfile_contents.get("stages", {})
    return stages.get(stage.name)


def _command(stage: Stage) -> Iterator[Change]:
    if not stage.frozen:
        if stage.cmd and stage.is_callback:
            yield Change("stage", "", "has no dependencies, so it always runs")
        elif stage.always_changed:
            yield Change("stage", "", "has always_changed")
    if not stage.changed_stage():
        return
    if isinstance(stage, PipelineStage):
        old = (_recorded(stage) or {}).get("cmd")
        yield Change("command", "", "changed", _text(old), _text(stage.cmd))
    else:
        yield Change("stage", "", "file was edited")


def _dependency(dep: Any) -> Iterator[Change]:
    if isinstance(dep, ParamsDependency):
        return _parameters(dep)
    return _file("dependency", dep)


def _file(what: str, entry: Any) -> Iterator[Change]:
    for status in entry.status().values():
        old, new = _md5(entry.hash_info), None
        if status == "modified" and not old:
            status = "new"  # noqa: PLW2901  # `modified`, because no hash is recorded
        if status == "modified":
            new = _md5(entry.get_hash())
        yield Change(what, str(entry), HOW.get(status, status), old, new)


def _parameters(dep: ParamsDependency) -> Iterator[Change]:
    for status in dep.status().values():
        if isinstance(status, str):
            yield Change("parameter file", str(dep), HOW.get(status, status))
            continue
        before, now = dep.hash_info.value or {}, dep.read_params()
        for key, how in status.items():
            name = key if str(dep) == dep.DEFAULT_PARAMS_FILE else f"{dep}:{key}"
            yield Change(
                "parameter",
                name,
                HOW.get(how, how),
                _text(before.get(key)),
                _text(now.get(key)),
            )


def _md5(hash_info: Any) -> str | None:
    return str(hash_info.value)[:MD5_DIGITS] if hash_info else None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str)
