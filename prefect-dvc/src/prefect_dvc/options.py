"""The options of a run: those of `dvc repro`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of `dvc repro`, under their names there.

    Each is annotated with its help on the command line and its short form.

    Attributes:
        targets: stages, foreach or matrix groups, or paths of dvc.yaml and .dvc files;
            empty: the stages of `dvc.yaml` in the project's folder.
    """

    targets: tuple[str, ...] = ()
    glob: Annotated[bool, "targets may hold shell-style wildcards"] = False
    recursive: Annotated[bool, "run all stages in target folders", "-R"] = False
    single_item: Annotated[bool, "run nothing but the targets", "-s"] = False
    downstream: Annotated[bool, "run the targets and the stages that need them"] = False
    pipeline: Annotated[bool, "run the targets' whole pipelines", "-p"] = False
    all_pipelines: Annotated[bool, "run all pipelines of the repository", "-P"] = False
    force: Annotated[bool, "run stages even if they are unchanged", "-f"] = False
    force_downstream: Annotated[bool, "run the stages that need a changed one"] = False
    allow_missing: Annotated[bool, "skip stages with nothing but missing data"] = False
    no_run_cache: Annotated[bool, "don't restore results from the run cache"] = False
    keep_going: Annotated[bool, "after a failure, run independent stages", "-k"] = False
    ignore_errors: Annotated[bool, "after a failure, run all other stages"] = False
    pull: Annotated[bool, "download missing data from the default remote"] = False
    no_commit: Annotated[bool, "don't put outputs into the cache"] = False

    @property
    def only_targets(self) -> bool:
        """Whether no other stages than the targets run."""
        return self.single_item and not (self.pipeline or self.all_pipelines)

    @property
    def goes_on(self) -> bool:
        """Whether stages still start after another one has failed."""
        return self.keep_going or self.ignore_errors

    @property
    def ignores_upstream(self) -> bool:
        """Whether a stage starts even if a stage that it needs has failed."""
        return self.ignore_errors or self.only_targets

    @classmethod
    def of(cls, targets: Sequence[str] | str | None, **options: bool) -> "RunOptions":
        """Return options for `targets`: one, several, or None for the default."""
        chosen = (targets,) if isinstance(targets, str) else tuple(targets or ())
        return cls(targets=chosen, **options)

    def enabled(self) -> dict[str, bool]:
        """Return the options that are on, for `RunOptions.of`."""
        options = asdict(self)
        del options["targets"]
        return {name: True for name, on in options.items() if on}
