"""Train a variant once more: with another seed, learning rate or batch size.

Reads `data/normalized/`; keeps accuracies and predictions in `.checkpoints/seeds/` (see
`tasks.repeats`), and no model. What is kept already is not trained again. The test
set's accuracy is noted for its spread alone: nothing is chosen by it.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks import repeats
from tasks.dataset import splits
from tasks.dataset.splits import Facts, Split, SplitName
from tasks.repeats import NORMALIZED, Repeat
from tasks.runtime import cli
from tasks.runtime.params import BadInput, load
from tasks.train import Diverged, train
from tasks.training.settings import Train, Variant


def retrain(
    parts: dict[SplitName, Split],
    facts: Facts,
    settings: Train,
    variant: str,
    seed: int,
    checkpoint: Path | None = None,
) -> Repeat:
    """Return what `variant` gets right when trained with `seed`.

    Args:
        parts: the three splits.
        facts: on the data.
        settings: of the step `train`, whose seed doesn't count.
        variant: a key of `settings.variants`.
        seed: what to train with.
        checkpoint: see `tasks.train.train`.
    """
    settings = settings.model_copy(update={"seed": seed})
    held_out = parts["valid"]
    model, _ = train(parts["train"], held_out, facts, settings, variant, checkpoint)
    return repeats.measure(model, held_out, parts["test"], variant, seed)


def _changed(settings: Train, variant: str, changes: dict[str, Any]) -> Train:
    """Return the settings with another learning rate or batch size of a variant."""
    own = settings.variants[variant].model_dump() | changes
    try:
        changed = Variant.model_validate(own)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise BadInput(
            f"{variant} can't have {key} {fault['input']}: {fault['msg'].lower()}."
        ) from None
    return settings.model_copy(
        update={"variants": settings.variants | {variant: changed}}
    )


def _tried(
    parts: dict[SplitName, Split],
    facts: Facts,
    settings: Train,
    variant: str,
    seed: int,
    checkpoint: Path,
) -> Repeat:
    """Return what comes of a training, even if that is nothing."""
    try:
        return retrain(parts, facts, settings, variant, seed, checkpoint)
    except Diverged:
        return Repeat(
            variant=variant,
            architecture=settings.variants[variant].architecture,
            seed=seed,
            valid=0,
            test=0,
            predictions=b"",
            diverged=True,
        )


def main() -> None:
    """Train on the project's folders."""
    parser = cli.parser(__doc__)
    parser.add_argument("variant", metavar="VARIANT", help="a key of `train.variants`")
    parser.add_argument("seed", metavar="SEED", type=int, help="from 0 up")
    parser.add_argument("--learning-rate", type=float, help="instead of its own")
    parser.add_argument("--batch-size", type=int, help="instead of its own")
    variant, seed, *others = vars(parser.parse_args()).values()
    keys = ("learning_rate", "batch_size")
    changes = {k: v for k, v in zip(keys, others, strict=True) if v is not None}
    settings = load("train", Train)
    if variant not in settings.variants:
        raise BadInput(
            f"`train.variants` in params.yaml has no {variant!r}; it has "
            f"{', '.join(settings.variants)}."
        )
    if seed < 0:
        raise BadInput(f"The seed is {seed}; give one from 0 up.")
    settings = _changed(settings, variant, changes)
    marks = repeats.marks(changes)
    kept = repeats.load(variant, seed, marks[variant])
    if not kept:
        parts = {name: splits.load(NORMALIZED, name) for name in splits.SPLITS}
        unfinished = repeats.path(variant, seed, marks[variant]).with_suffix(".part")
        facts = splits.load_facts(NORMALIZED)
        kept = _tried(parts, facts, settings, variant, seed, unfinished)
        repeats.refuse_change(marks, changes)
        repeats.save(kept, marks[variant])
    if kept.diverged:
        print(f"{variant}, seed {seed}: it diverged")
        return
    said = f"{variant}, seed {seed}: accuracy {kept.valid:.4f} in validation"
    # Where settings are tried, they are chosen, which is not done by the test set.
    print(said if changes else f"{said}, {kept.test:.4f} on the test set")


if __name__ == "__main__":
    cli.run(main)
