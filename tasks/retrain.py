"""Train a variant with another seed, learning rate or batch size.

Reads `data/normalized/` and writes a trial: accuracies, and which validation images
are classified correctly (see `tasks.trials.trial`). The model is not saved. A training
that diverges is a result like any other.

With `--test`, the accuracy on the test images is measured too. Sweeps leave it out,
because they choose settings by the results.
"""

from pathlib import Path

from pydantic import ValidationError

from tasks.dataset import splits
from tasks.dataset.splits import Facts, Split, SplitName
from tasks.runtime import cli
from tasks.runtime.params import BadInput, load
from tasks.train import CHECKPOINTS, NORMALIZED, Diverged, train
from tasks.training.settings import Train
from tasks.trials import trial
from tasks.trials.trial import Trial


def retrain(
    parts: dict[SplitName, Split],
    facts: Facts,
    settings: Train,
    variant: str,
    checkpoint: Path | None = None,
) -> Trial:
    """Train `variant` and return which images it classifies correctly.

    The test split is only measured if it is among `parts`.
    """
    valid = parts["valid"]
    try:
        model, _ = train(
            parts["train"], valid, facts, settings, variant, checkpoint, progress=False
        )
    except Diverged:
        architecture = settings.variants[variant].architecture
        return Trial(architecture=architecture, diverged=True)
    return trial.measure(model, valid, parts.get("test"))


def changed(
    settings: Train, variant: str, seed: int, changes: dict[str, float | int | None]
) -> Train:
    """Return `settings` with another seed, and with `changes` to `variant`.

    Raises:
        BadInput: a value is invalid, or there is no such variant.
    """
    settings.resolve(variant)
    new = settings.model_dump() | {"seed": seed}
    new["variants"][variant] |= {k: v for k, v in changes.items() if v is not None}
    try:
        return Train.model_validate(new)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise BadInput(
            f"`{key}` can't be {fault['input']}: {fault['msg'].lower()}."
        ) from None


def main() -> None:
    """Run the step in the folder of an experiment."""
    parser = cli.parser(__doc__)
    parser.add_argument("variant", metavar="VARIANT", help="a key of `train.variants`")
    parser.add_argument("seed", metavar="SEED", type=int, help="0 or more")
    parser.add_argument("out", metavar="OUT", type=Path, help="the JSON file to write")
    parser.add_argument("--learning-rate", type=float, help="instead of the variant's")
    parser.add_argument("--batch-size", type=int, help="instead of the variant's")
    parser.add_argument(
        "--test", action="store_true", help="measure on test images too"
    )
    options = parser.parse_args()
    changes = {key: getattr(options, key) for key in ("learning_rate", "batch_size")}
    settings = changed(load("train", Train), options.variant, options.seed, changes)
    names = [name for name in splits.SPLITS if options.test or name != "test"]
    result = retrain(
        {name: splits.load(NORMALIZED, name) for name in names},
        splits.load_facts(NORMALIZED),
        settings,
        options.variant,
        CHECKPOINTS / options.out.name,
    )
    trial.save(options.out, result)
    found = "diverged"
    if result.valid is not None:
        found = f"accuracy {result.valid:.4f} in validation"
    if result.test is not None:
        found += f", {result.test:.4f} on the test set"
    print(f"{options.out.stem}: {found}")


if __name__ == "__main__":
    cli.run(main)
