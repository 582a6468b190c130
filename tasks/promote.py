"""Make the best model of this run the champion, if it passes the gate.

Reads `reports/metrics.json` (which model is the best), the models, `data/normalized/`,
`dvc.lock` and the section `promote` of params.yaml. Writes `models/champions.jsonl`,
`models/champion.safetensors`, `models/champion.json` and `reports/model_card.md`, or
nothing.

A champion of other data is no measure for the candidate: it is held to the record of
the last one of its own data, if there was one.

A model that was rolled back stays out until it is put back by hand. Exit status: 0 if
the best model is champion now; 3 if it was refused, with the reason.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tasks.dataset import splits
from tasks.dataset.splits import Split
from tasks.evaluation import metrics, metrics_file
from tasks.evaluation.metrics_file import SplitMetrics
from tasks.evaluation.model_set import MODELS
from tasks.modeling import model_file
from tasks.modeling.model_file import Model
from tasks.registry import champions, gate, provenance
from tasks.registry.champions import Comparison, Event, Record, SplitSizes
from tasks.registry.gate import Thresholds
from tasks.runtime import cli
from tasks.runtime.params import BadInput, load

NORMALIZED = Path("data/normalized")
METRICS = Path("reports/metrics.json")
REFUSED = 3
# Of the data, in records of earlier versions, which do not tell it.
FIRST_TITLE = "MNIST by Y. LeCun, C. Cortes and C. J. C. Burges"


class Verdict(NamedTuple):
    """What `promote` finds: why the candidate is refused, if it is, and its figures."""

    reasons: list[str]
    compared: Comparison | None
    valid: dict[str, float]
    recall: dict[str, float]


def promote(
    candidate: Model,
    champion: Model | Record | None,
    valid: Split,
    thresholds: Thresholds,
) -> Verdict:
    """Return whether `candidate` may take the champion's place.

    Args:
        candidate: the best model of this run.
        champion: the model; its record, if its file can't be used; None if there is
            none.
        valid: the images on which both are compared.
        thresholds: that the candidate is held to.
    """
    scores, recall = _figures(candidate, valid)
    reasons, compared = gate.faults(scores, thresholds), None
    if isinstance(champion, Model):
        compared = gate.compare(candidate, champion, valid)
        reasons += gate.shortfalls(compared, thresholds)
    elif champion:
        reasons += gate.shortfalls_unseen(scores, champion)
    return Verdict(reasons, compared, scores, recall)


def _figures(model: Model, split: Split) -> tuple[dict[str, float], dict[str, float]]:
    """Return the scalar metrics of `model`, and its recall of each class."""
    class_names = model.description.classes
    logs = model.log_probabilities(split.images)
    counts = metrics.confusion(split.labels, logs.argmax(axis=1), len(class_names))
    recall = metrics.per_class(counts)["recall"]
    return metrics.summary(split.labels, logs, class_names), {
        name: round(float(share), metrics.DIGITS)
        for name, share in zip(class_names, recall, strict=True)
    }


def _refuse(name: str, reasons: list[str]) -> None:
    print(f"{name} was not promoted: {'; '.join(reasons)}.", file=sys.stderr)
    sys.exit(REFUSED)


def _champion(record: Record | None, *, lost: bool) -> Model | Record | None:
    """Return what a candidate is compared with."""
    if record is None:
        return None
    if champions.has_model(record):
        try:
            return model_file.load(champions.FILE)
        except model_file.Outdated:
            return record
    if lost:
        return record
    raise BadInput(
        f"{champions.FILE} is not the champion that {champions.HISTORY} tells of; run "
        "`python -m flows.pipeline`, which gets it from DVC's cache or remote."
    )


def _same_data(record: Record, candidate: Model) -> bool:
    """Return whether a champion was made of the data that the candidate is of."""
    about = candidate.description
    title = record.title or FIRST_TITLE
    return title == about.title and set(record.recall) == set(about.classes)


def _opponent(
    candidate: Model, before: Record | None, *, lost: bool
) -> Model | Record | None:
    """Return what the candidate is compared with: a champion of the same data."""
    if before and _same_data(before, candidate):
        champion = _champion(before, lost=lost)
        if (
            isinstance(champion, Model)
            and champion.description.form != candidate.description.form
        ):
            return before
        return champion
    of_this_data = [
        event.champion
        for event in champions.history()
        if _same_data(event.champion, candidate)
    ]
    return of_this_data[-1] if of_this_data else None


def main() -> None:
    """Run the step on the project's folders."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--lost",
        action="store_true",
        help="the champion's file can't be had: hold the candidate to its record",
    )
    arguments = parser.parse_args()
    thresholds = load("promote", Thresholds)
    name = metrics_file.read(METRICS)["best"]
    path = MODELS / f"{name}.safetensors"
    candidate, content = model_file.load(path), path.read_bytes()
    if champions.settled(content):
        print(f"{name} is the champion already.")
        return
    before, md5 = champions.current(), champions.md5(content)
    if md5 in champions.rejected():
        back = f"`python -m flows.rollback --to {md5[:8]}` puts it back"
        _refuse(name, [f"it was rolled back; {back}"])
    parts = {split: splits.load(NORMALIZED, split) for split in splits.SPLITS}
    champion = _opponent(candidate, before, lost=arguments.lost)
    verdict = promote(candidate, champion, parts["valid"], thresholds)
    if verdict.reasons:
        _refuse(name, verdict.reasons)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = Record(
        model=name,
        md5=md5,
        promoted=now,
        replaces=before.md5 if before else None,
        compared=verdict.compared,
        revision=provenance.revision(),
        data=provenance.data(),
        parameters=candidate.description.parameters,
        title=candidate.description.title,
        architecture=candidate.description.architecture,
        images=SplitSizes(**{split: len(part.labels) for split, part in parts.items()}),
        valid=SplitMetrics(**verdict.valid),
        test=SplitMetrics(**_figures(candidate, parts["test"])[0]),
        recall=verdict.recall,
    )
    event = Event(
        event="promoted", time=now, instead_of=record.replaces, champion=record
    )
    champions.crown(event, content)
    other = before is not None and not _same_data(before, candidate)
    print(_announcement(record, before, other=other))


def _announcement(record: Record, before: Record | None, *, other: bool) -> str:
    said = f"{record.model} is champion now: accuracy {record.valid.accuracy:.4f}"
    if before is None:
        return f"{said} in validation, and there was none before."
    if other:
        return f"{said} in validation; {before.model}, which is of other data, was."
    if record.compared is None:
        return f"{said} in validation; {before.model}, whose file is no use, was."
    return (
        f"{said} in validation, where {before.model} has "
        f"{record.compared.accuracy:.4f} ({record.compared.gained} images gained, "
        f"{record.compared.lost} lost, p = {record.compared.p_value:.2g})."
    )


if __name__ == "__main__":
    cli.run(main)
