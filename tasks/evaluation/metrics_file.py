"""The content of `reports/metrics.json`, validated when it is read."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from tasks.runtime import files
from tasks.runtime.params import BadInput, Settings, Word

MAX_BYTES = 1_000_000  # six models take 5 kB

Share = Annotated[float, Field(ge=0, le=1)]
Error = Annotated[float, Field(ge=0)]


class SplitMetrics(Settings):
    """Metrics of one model on one split: see `tasks.evaluation.metrics.summary`."""

    model_config = ConfigDict(extra="ignore")

    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share
    rmse: Error | None = None
    mae: Error | None = None
    log_loss: Error
    ece: Share


class SelectiveMetrics(Settings):
    """Metrics of accepted predictions: see `tasks.evaluation.metrics.selective`."""

    set_aside: Share
    error: Share | None
    error_low: Share | None
    error_high: Share | None


class Selection(Settings):
    """The threshold of a model, and the metrics of the predictions that reach it.

    Without a threshold no prediction is accepted. `test` is only for the best model.
    """

    threshold: Share | None
    valid: SelectiveMetrics
    test: SelectiveMetrics | None = None


class ModelMetrics(Settings):
    """Metrics of one model; `kept` are those of the predictions that it accepts."""

    train: SplitMetrics
    valid: SplitMetrics
    kept: Selection


class Agreement(Settings):
    """The agreement of an update by hand with the optimizer of the same parameters."""

    optimizer: Word
    same_predictions: Share
    largest_difference: Error


class Metrics(Settings):
    """The whole file, as `tasks.evaluate` writes it."""

    max_error: Share
    models: Annotated[dict[Word, ModelMetrics], Field(min_length=1)]
    best: Word
    test: SplitMetrics
    by_hand: dict[Word, Agreement]

    @model_validator(mode="after")
    def _named_models_have_metrics(self) -> Self:
        named = {self.best, *self.by_hand}
        named |= {pair.optimizer for pair in self.by_hand.values()}
        if not named <= self.models.keys():
            raise ValueError("a model is named that has no metrics")
        return self


def read(path: Path) -> dict[str, Any]:
    """Return the metrics at `path`, or raise BadInput if the file is damaged."""
    try:
        content = files.read_bytes(path, MAX_BYTES)
        return Metrics.model_validate_json(content).model_dump(exclude_unset=True)
    except ValidationError:
        raise BadInput(
            f"{path} is damaged; run `dvc repro --force evaluate`."
        ) from None
