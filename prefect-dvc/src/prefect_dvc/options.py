"""What a run is asked to do: the options of `dvc repro`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of `dvc repro`, under their names there.

    Attributes:
        targets: stages, foreach or matrix groups, or paths of dvc.yaml and .dvc files;
            empty: the stages of `dvc.yaml` in the project's folder.
        glob: `targets` may hold shell-style wildcards.
        recursive: a folder as a target stands for all stages inside it.
        single_item: only the targets, without the stages that they need.
        downstream: the targets and the stages that need them.
        pipeline: the whole pipelines that the targets belong to.
        all_pipelines: every stage of the repository.
        force: run stages that are unchanged.
        force_downstream: when a stage runs, run those that need it even if unchanged.
        keep_going: after a failure, run the stages that don't need the failed one.
        ignore_errors: after a failure, run all other stages; the run does not fail.
        pull: download missing data and the run cache from the default remote.
        allow_missing: a stage whose data is missing but otherwise unchanged does not
            run.
        no_commit: don't copy outputs into DVC's cache.
        no_run_cache: run commands even if the run cache has their result.
    """

    targets: tuple[str, ...] = ()
    glob: bool = False
    recursive: bool = False
    single_item: bool = False
    downstream: bool = False
    pipeline: bool = False
    all_pipelines: bool = False
    force: bool = False
    force_downstream: bool = False
    keep_going: bool = False
    ignore_errors: bool = False
    pull: bool = False
    allow_missing: bool = False
    no_commit: bool = False
    no_run_cache: bool = False

    @property
    def only_targets(self) -> bool:
        """Whether no other stages than the targets run."""
        return self.single_item and not (self.pipeline or self.all_pipelines)

    @property
    def follows_downstream(self) -> bool:
        """Whether the stages that need the targets run instead of those they need."""
        return self.downstream and not (self.pipeline or self.all_pipelines)

    @property
    def goes_on(self) -> bool:
        """Whether stages still start after another one has failed."""
        return self.keep_going or self.ignore_errors

    @classmethod
    def of(cls, targets: Sequence[str] | str | None, **options: bool) -> "RunOptions":
        """Return options for `targets`: one, several, or None for the default."""
        chosen = (targets,) if isinstance(targets, str) else tuple(targets or ())
        return cls(targets=chosen, **options)

    def enabled(self) -> dict[str, bool]:
        """Return the options that are on, for `RunOptions.of`."""
        return {
            name: True
            for name, value in asdict(self).items()
            if name != "targets" and value
        }
