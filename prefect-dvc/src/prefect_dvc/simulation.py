"""Follow a run stage by stage without running it: what `DvcProject.plan` returns.

A stage that DVC would restore has known outputs before it is restored. So the stages
that read them can be planned as if it had been: a dependency whose future content is
known answers DVC's questions with that content instead of the file's.
"""

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any

from dvc.dependency import Dependency
from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.stage.cache import _can_hash
from dvc.stage.run import _enforce_cmd_list
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.build import build
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree

from prefect_dvc.changes import NEVER_RAN, changes
from prefect_dvc.options import RunOptions
from prefect_dvc.plan import Action, Change, PlannedStage

FORCED = Change("stage", "", "is forced to run")
PENDING = "is made by a stage that runs"

# Metadata and hash of a file or folder.
Content = tuple[Meta, HashInfo]


class Planner:
    """Plans one stage after another, in the order of the run.

    Args:
        repo: locked.
        options: of the run.
        last_seconds: how long each stage's commands took the last time.
    """

    def __init__(
        self, repo: Repo, options: RunOptions, last_seconds: Mapping[str, float]
    ) -> None:
        self._repo = repo
        self._options = options
        self._last_seconds = last_seconds
        self._files = _Files()
        self._forced: set[str] = set()

    def planned(
        self, stage: Stage, upstream: list[Stage], before: Iterable[str], feeds: Any
    ) -> PlannedStage:
        """Return what a run would do with the next stage.

        Args:
            stage: freshly loaded; its dependencies are replaced by simulated ones.
            upstream: the stages that it reads from, in the whole repository.
            before: names of the selected stages that must end before it.
            feeds: names of the stages that read its outputs.
        """
        name = stage.addressing
        pending = [] if stage.frozen else self._files.simulate(stage)
        missing_is_fine = self._options.allow_missing
        found = [
            *changes(
                stage, skip=pending, allow_missing=missing_is_fine, upstream=upstream
            ),
            *(Change("dependency", str(dep), PENDING) for dep in pending),
        ]
        if found and found[0] == NEVER_RAN:
            found = [NEVER_RAN]
        forced = self._options.force or name in self._forced
        if forced:
            found = [FORCED, *found]
        action = Action.RUN if found else Action.UNCHANGED
        if found:
            restored = None
            if stage.cmd and not stage.frozen and not forced and not pending:
                restored = self._restored(stage, upstream)
            if restored is not None:
                action = Action.RESTORE
            if not stage.frozen and (stage.cmd or stage.is_import):
                self._files.change(stage, restored)
            if self._options.force_downstream:
                self._forced.update(feeds)
        runs = stage.cmd and not stage.frozen
        return PlannedStage(
            name=name,
            action=action,
            changes=tuple(found),
            upstream=tuple(before),
            description=stage.desc or "",
            commands=tuple(_enforce_cmd_list(stage.cmd)) if runs else (),
            last_seconds=self._last_seconds.get(name),
        )

    def _restored(
        self, stage: Stage, upstream: list[Stage]
    ) -> dict[str, Content] | None:
        """Return what the outputs would be if restored; None if they can't be."""
        if self._options.pull and not changes(
            stage, allow_missing=True, upstream=upstream
        ):
            return {out.fs_path: (out.meta, out.hash_info) for out in stage.outs}
        try:
            entry = self._cache_entry(stage)
            if entry is None:
                return None
            # What `StageCache.restore` does, without the checkout.
            restored = self._repo.stage_cache._create_stage(entry, wdir=stage.wdir)  # noqa: SLF001
            if not restored.outs_cached():
                return None
        except (DvcException, OSError):
            return None
        return {out.fs_path: (out.meta, out.hash_info) for out in restored.outs}

    def _cache_entry(self, stage: Stage) -> dict[str, Any] | None:
        """Return the entry that `StageCache.restore` would restore; None if none."""
        if not _can_hash(stage):
            return None
        if (
            not stage.changed_stage()
            and stage.deps_cached()
            and all(out.hash_info for out in stage.outs)
        ):
            return dict(to_single_stage_lockfile(stage))
        if self._options.no_run_cache:
            return None
        stage.save_deps()
        entry: dict[str, Any] | None = self._repo.stage_cache._load(stage)  # noqa: SLF001  # the lookup has no public name
        return entry


class _Files:
    """The outputs that will differ from the workspace when a stage's turn comes."""

    def __init__(self) -> None:
        self._outputs: dict[str, Content | None] = {}

    def change(self, stage: Stage, restored: Mapping[str, Content] | None) -> None:
        """Note what a stage will write; None: not known before it runs."""
        for out in stage.outs:
            self._outputs[out.fs_path] = (restored or {}).get(out.fs_path)

    def simulate(self, stage: Stage) -> list[Dependency]:
        """Let the stage's dependencies have their future content.

        Returns:
            the dependencies whose future content is unknown.
        """
        pending = []
        for position, dep in enumerate(stage.deps):
            changed = [path for path in self._outputs if overlap(path, dep.fs_path)]
            if not changed:
                continue
            content = self._content(dep, changed)
            if content is None:
                pending.append(dep)
            else:
                stage.deps[position] = _FutureDependency.of(dep, content)
        return pending

    def _content(self, dep: Dependency, changed: list[str]) -> Content | None:
        """Return the future content of a dependency with `changed` outputs in it."""
        known = {path: self._outputs[path] for path in changed}
        if (
            None in known.values()
            or isinstance(dep, ParamsDependency)
            or dep.hash_name != "md5"
        ):
            return None
        (path, *_) = changed
        try:
            if path == dep.fs_path:
                return known[path]
            if dep.fs_path.startswith(f"{path}/"):
                return _part(dep, path, known[path])
            return _merged(dep, known)
        except (DvcException, OSError):
            return None


class _FutureDependency(Dependency):  # type: ignore[misc]  # DVC is not typed
    """A dependency with the content that it will have."""

    exists = True
    future: Content

    @classmethod
    def of(cls, dep: Dependency, content: Content) -> "_FutureDependency":
        future = copy(dep)
        future.__class__ = cls
        future.future = content
        return future  # type: ignore[no-any-return]

    def _get_hash_meta(self) -> Content:
        return self.future

    def save(self) -> None:
        self.meta, self.hash_info = self.future


def _part(dep: Dependency, folder: str, content: Any) -> Content | None:
    """Return the content of a file or folder inside an output."""
    key = dep.fs.relparts(dep.fs_path, folder)
    tree = Tree.load(dep.cache, content[1])
    meta, hash_info = tree.get(key) or (None, None)
    if hash_info:
        return meta or Meta(), hash_info
    part = tree.get_obj(dep.cache, key)
    return (Meta(isdir=True), part.hash_info) if part else None


def _merged(dep: Dependency, outputs: Mapping[str, Any]) -> Content:
    """Return the content of a folder once the outputs in it are what they will be."""
    tree = Tree()  # type: ignore[no-untyped-call]
    if dep.fs.exists(dep.fs_path):
        _, _, found = build(
            dep.local_cache,
            dep.fs_path,
            dep.fs,
            dep.hash_name,
            ignore=dep.dvcignore,
            dry_run=True,
        )
        assert isinstance(found, Tree)
        inside = [dep.fs.relparts(path, dep.fs_path) for path in outputs]
        for key, meta, hash_info in found:
            if not any(key[: len(prefix)] == prefix for prefix in inside):
                tree.add(key, meta, hash_info)
    for path, (meta, hash_info) in outputs.items():
        prefix = dep.fs.relparts(path, dep.fs_path)
        if hash_info.isdir:
            for key, *entry in Tree.load(dep.cache, hash_info):
                tree.add((*prefix, *key), *entry)
        else:
            tree.add(prefix, meta, hash_info)
    tree.digest()
    return Meta(isdir=True, nfiles=len(tree)), tree.hash_info


def overlap(one: str, other: str) -> bool:
    """Return whether two paths are the same, or one is a folder with the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")
