"""Train a variant once more, with another seed, to see how much the seed matters.

Reads `data/normalized/`; keeps accuracies and predictions in `.checkpoints/seeds/` (see
`tasks.repeats`), and no model. What is kept already is not trained again. The test
set's accuracy is noted for its spread alone: nothing is chosen by it.
"""

from pathlib import Path

from tasks import command, repeats, splits
from tasks.repeats import NORMALIZED, Repeat
from tasks.settings import BadInput, load
from tasks.splits import Facts, Name, Split
from tasks.train import Train, train


def retrain(
    parts: dict[Name, Split],
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


def main() -> None:
    """Train on the project's folders."""
    parser = command.parser(__doc__)
    parser.add_argument("variant", metavar="VARIANT", help="a key of `train.variants`")
    parser.add_argument("seed", metavar="SEED", type=int, help="from 0 up")
    variant, seed = vars(parser.parse_args()).values()
    settings = load("train", Train)
    if variant not in settings.variants:
        raise BadInput(
            f"`train.variants` in params.yaml has no {variant!r}; it has "
            f"{', '.join(settings.variants)}."
        )
    if seed < 0:
        raise BadInput(f"The seed is {seed}; give one from 0 up.")
    marks = repeats.marks()
    kept = repeats.load(variant, seed, marks[variant])
    if not kept:
        parts = {name: splits.load(NORMALIZED, name) for name in splits.SPLITS}
        unfinished = repeats.path(variant, seed, marks[variant]).with_suffix(".part")
        facts = splits.load_facts(NORMALIZED)
        kept = retrain(parts, facts, settings, variant, seed, unfinished)
        repeats.refuse_change(marks)
        repeats.save(kept, marks[variant])
    print(
        f"{variant}, seed {seed}: accuracy {kept.valid:.4f} in validation, "
        f"{kept.test:.4f} on the test set"
    )


if __name__ == "__main__":
    command.run(main)
