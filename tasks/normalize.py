"""Split the raw data as the lesson does, and measure the scale of the pixels.

Reads `data/raw/` and the dataset card, writes `data/normalized/`
(see `tasks.dataset.splits`). The validation images are the last ones of the training
files. The mean and the standard deviation are measured on the training split alone,
because the other two represent unseen images. Both numbers are stored beside the
pixels, which stay bytes.
"""

from pathlib import Path

from tasks.dataset import splits
from tasks.dataset.spec import DatasetSpec
from tasks.dataset.splits import Facts, Scale, Split, SplitName
from tasks.rawdata import dataset_card, idx
from tasks.runtime import cli
from tasks.runtime.params import BadInput, Count, Settings, load

RAW = Path("data/raw")
NORMALIZED = Path("data/normalized")


class Normalize(Settings):
    """Section `normalize` of the dataset card.

    Attributes:
        validation: number of images held out from the end of the training files.
    """

    validation: Count


def normalize(
    training: Split, test: Split, spec: DatasetSpec, settings: Normalize
) -> tuple[dict[SplitName, Split], Facts]:
    """Return the three splits and the facts about them."""
    held_out = settings.validation
    if held_out >= len(training.images):
        raise BadInput(
            f"`normalize.validation` of the dataset card is {held_out}, but there are "
            f"only {len(training.images)} training images. Make it smaller."
        )
    train = Split(training.images[:-held_out], training.labels[:-held_out])
    valid = Split(training.images[-held_out:], training.labels[-held_out:])
    facts = Facts(**dict(spec), scale=Scale.of(train.images, spec.form.brightest))
    return {"train": train, "valid": valid, "test": test}, facts


def main() -> None:
    """Run the step on the project's folders."""
    cli.parser(__doc__).parse_args()
    card = dataset_card.selected()
    settings = load("normalize", Normalize, card)
    spec = load("images", DatasetSpec, card)
    training, test = idx.read_splits(RAW)
    parts, facts = normalize(training, test, spec, settings)
    splits.save(NORMALIZED, parts, facts)
    counts = ", ".join(f"{name} {len(part.labels)}" for name, part in parts.items())
    print(f"{counts}; mean {facts.scale.mean:.7f}, std {facts.scale.std:.7f}")


if __name__ == "__main__":
    cli.run(main)
