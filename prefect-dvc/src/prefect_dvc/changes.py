"""How a stage differs from what dvc.lock records of it: why DVC would run it.

`dvc.stage.Stage.changed` answers yes or no. These functions compare the same things
(command, dependencies, parameters, outputs), and return every difference with the old
and the new value.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
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
# By path: the version of each dvc.lock that was read last, and its stages. It takes
# 0.4 ms per stage to parse.
_LOADED: dict[str, tuple[Any, dict[str, Any]]] = {}
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
    # Reading dvc.lock takes time: only where nothing of it reached the stage.
    known = any(entry.hash_info for entry in (*stage.deps, *stage.outs))
    if isinstance(stage, PipelineStage) and not known and recorded(stage) is None:
        return [NEVER_RAN]
    found = [*_command(stage)]
    if not stage.frozen:
        made = {
            out.fs_path: out.hash_info
            for other in upstream
            for out in other.outs
            if allow_missing
        }
        for dep in stage.deps:
            if dep in skip:
                continue
            missing_is_fine = allow_missing and (
                made.get(dep.fs_path, dep.hash_info) == dep.hash_info
            )
            found += _dependency(dep, missing_is_fine=missing_is_fine)
    for out in stage.outs:
        for change in _file("output", out):
            if not (allow_missing and change.how in MISSING):
                found.append(change)
    return found


def recorded(stage: Stage) -> dict[str, Any] | None:
    """Return the entry of a stage in dvc.lock; None if there is none."""
    lockfile = stage.dvcfile._lockfile  # noqa: SLF001  # DVC has no public name for it
    try:
        stat = Path(lockfile.path).stat()
    except FileNotFoundError:
        return None
    version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if _LOADED.get(lockfile.path, (None,))[0] != version:
        _LOADED[lockfile.path] = version, lockfile.load().get("stages", {})
    return _LOADED[lockfile.path][1].get(stage.name)


def _command(stage: Stage) -> Iterator[Change]:
    if stage.frozen:
        pass
    elif stage.cmd and stage.is_callback:
        yield Change("stage", "", "has no dependencies, so it always runs")
    elif stage.always_changed:
        yield Change("stage", "", "has always_changed")
    if not stage.changed_stage():
        return
    if isinstance(stage, PipelineStage):
        entry = recorded(stage) or {}
        yield Change(
            "command", "", "changed", _text(entry.get("cmd")), _text(stage.cmd)
        )
    else:
        yield Change("stage", "", "file was edited")


def _dependency(dep: Any, *, missing_is_fine: bool) -> Iterator[Change]:
    is_params = isinstance(dep, ParamsDependency)
    for change in _parameters(dep) if is_params else _file("dependency", dep):
        if not (missing_is_fine and change.how == HOW["deleted"]):
            yield change


def _file(what: str, entry: Any) -> Iterator[Change]:
    for status in entry.status().values():
        old = _md5(entry.hash_info)
        if status == "modified" and not old:
            status = "new"  # noqa: PLW2901  # DVC compares with no hash at all
        new = None
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
            old = _text(before[key]) if key in before else None
            new = _text(now[key]) if key in now else None
            yield Change("parameter", name, HOW.get(how, how), old, new)


def _md5(hash_info: Any) -> str | None:
    return str(hash_info.value)[:MD5_DIGITS] if hash_info else None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str)
