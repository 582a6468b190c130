"""Make the best model of this run the champion if it passes the gate.

Reads `reports/metrics.json` (which model is best), the models, `data/normalized/`,
`dvc.lock` and the section `promote` of params.yaml. Writes `models/champions.jsonl`,
`models/champion.safetensors`, `models/champion.json` and `reports/model_card.md`, or
nothing.

If the champion was trained on other data, the candidate is compared with the record of
the last champion trained on the same data, if there is one. A model that was rolled
back is refused until it is put back by hand.

Exit status: 0 if the best model is now the champion; 3 if it was refused, with the
reason.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tasks.dataset import splits
from tasks.dataset.splits import Split, SplitName
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
# The title of the data in records of earlier versions, which have none.
FIRST_TITLE = "MNIST by Y. LeCun, C. Cortes and C. J. C. Burges"


class Verdict(NamedTuple):
    """The reasons to refuse a candidate, if any, and its validation metrics."""

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
    """Decide whether `candidate` may replace `champion`, measured on `valid`.

    The champion is given by its record if its file can't be used, and None if there is
    no champion to compare with.
    """
    scores, recall = _metrics(candidate, valid)
    reasons, compared = gate.faults(scores, thresholds), None
    if isinstance(champion, Model):
        compared = gate.compare(candidate, champion, valid)
        reasons += gate.shortfalls(compared, thresholds)
    elif champion:
        reasons += gate.shortfalls_by_record(scores, champion)
    return Verdict(reasons, compared, scores, recall)


def _metrics(model: Model, split: Split) -> tuple[dict[str, float], dict[str, float]]:
    """Return the scalar metrics of `model` and its recall of each class."""
    class_names = model.description.classes
    logs = model.log_probabilities(split.images)
    counts = metrics.confusion(split.labels, logs.argmax(axis=1), len(class_names))
    recall = metrics.per_class(counts)["recall"]
    return metrics.summary(split.labels, logs, class_names), {
        name: round(float(share), metrics.DIGITS)
        for name, share in zip(class_names, recall, strict=True)
    }


def _same_data(record: Record, candidate: Model) -> bool:
    """Return whether a champion was trained on the candidate's data."""
    description = candidate.description
    title = record.title or FIRST_TITLE
    return title == description.title and set(record.recall) == set(description.classes)


def _opponent(candidate: Model, *, lost: bool) -> Model | Record | None:
    """Return the model or record that the candidate is compared with."""
    comparable = [
        event.champion
        for event in champions.history()
        if _same_data(event.champion, candidate)
    ]
    if not comparable:
        return None
    record = comparable[-1]
    if record != champions.current():
        return record
    if not champions.has_model(record):
        if lost:
            return record
        raise BadInput(
            f"{champions.FILE} is not the champion recorded in {champions.HISTORY}; run"
            " `python -m flows.pipeline`, which restores it from DVC's cache or remote."
        )
    try:
        champion = model_file.load(champions.FILE)
    except model_file.Outdated:
        return record
    same_images = champion.description.form == candidate.description.form
    return champion if same_images else record


def _record(
    name: str,
    md5: str,
    candidate: Model,
    verdict: Verdict,
    parts: dict[SplitName, Split],
) -> Record:
    before = champions.current()
    description = candidate.description
    return Record(
        model=name,
        md5=md5,
        promoted=datetime.now(UTC).isoformat(timespec="seconds"),
        replaces=before.md5 if before else None,
        compared=verdict.compared,
        revision=provenance.revision(),
        data=provenance.data(),
        parameters=description.parameters,
        title=description.title,
        architecture=description.architecture,
        images=SplitSizes(**{split: len(part.labels) for split, part in parts.items()}),
        valid=SplitMetrics(**verdict.valid),
        test=SplitMetrics(**_metrics(candidate, parts["test"])[0]),
        recall=verdict.recall,
    )


def _refuse(name: str, reasons: list[str]) -> None:
    print(f"{name} was not promoted: {'; '.join(reasons)}.", file=sys.stderr)
    sys.exit(REFUSED)


def main() -> None:
    """Run the step on the project's folders."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--lost",
        action="store_true",
        help="the champion's file is lost: compare the candidate with its record",
    )
    arguments = parser.parse_args()
    thresholds = load("promote", Thresholds)
    name = metrics_file.read(METRICS)["best"]
    path = MODELS / f"{name}.safetensors"
    candidate, content = model_file.load(path), path.read_bytes()
    if champions.settled(content):
        print(f"{name} is already the champion.")
        return
    before, md5 = champions.current(), champions.md5(content)
    if md5 in champions.rejected():
        command = f"`python -m flows.rollback --to {md5[:8]}`"
        _refuse(name, [f"it was rolled back; {command} puts it back"])
    parts = {split: splits.load(NORMALIZED, split) for split in splits.SPLITS}
    champion = _opponent(candidate, lost=arguments.lost)
    verdict = promote(candidate, champion, parts["valid"], thresholds)
    if verdict.reasons:
        _refuse(name, verdict.reasons)
    record = _record(name, md5, candidate, verdict, parts)
    time, replaces = record.promoted, record.replaces
    event = Event(event="promoted", time=time, instead_of=replaces, champion=record)
    champions.crown(event, content)
    print(_announcement(record, before, candidate))


def _announcement(record: Record, before: Record | None, candidate: Model) -> str:
    text = (
        f"{record.model} is now the champion: validation accuracy "
        f"{record.valid.accuracy:.4f}"
    )
    if before is None:
        return f"{text}. It is the first champion."
    if not _same_data(before, candidate):
        return f"{text}. It replaces {before.model}, which was trained on other data."
    if record.compared is None:
        return f"{text}. It replaces {before.model}, whose file can't be used."
    return (
        f"{text}. It replaces {before.model} with {record.compared.accuracy:.4f} "
        f"({record.compared.gained} images gained, {record.compared.lost} lost, "
        f"p = {record.compared.p_value:.2g})."
    )


if __name__ == "__main__":
    cli.run(main)
