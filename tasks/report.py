"""Draw the lesson's pictures: `reports/figures/*.png`.

Reads `data/normalized/`, `models/` and what evaluate wrote under `reports/`.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tasks import candidates, command, figures, files, splits
from tasks.candidates import MODELS
from tasks.models import Model
from tasks.splits import Split

NORMALIZED = Path("data/normalized")
REPORTS = Path("reports")

# The part of the first digit that the lesson prints, and the images that it looks at.
CROP = slice(10, 15)
FIRST = 8


def report(
    *,
    train: Split,
    valid: Split,
    trained: dict[str, Model],
    loss: dict[str, np.ndarray],
    confusion: pd.DataFrame,
    predictions: pd.DataFrame,
    best: str,
) -> dict[str, Figure]:
    """Return the pictures by name.

    Args:
        train: the training split.
        valid: the validation split.
        trained: every model by name.
        loss: of every network by name, its loss per batch, (batches,).
        confusion: as evaluate writes it, the rows of `best` on the test set included.
        predictions: as evaluate writes it.
        best: the best model's name.
    """
    counts = confusion.query("model == @best and split == 'test'").pivot_table(
        index="actual", columns="predicted", values="images"
    )
    first = predictions.head(FIRST)
    return {
        "digit": figures.digit(train.images[0], int(train.labels[0])),
        "crop": figures.crop(train.images[0], CROP, CROP),
        "predictions": figures.predictions(
            valid.images[:FIRST],
            first["label"].to_numpy(),
            {name: first[name].to_numpy() for name in trained},
        ),
        "loss": figures.losses(loss),
        "weights": figures.weights(
            {name: model.weights for name, model in trained.items()},
            valid.images.shape[1:],
        ),
        "confusion": figures.confusion(
            counts.to_numpy().astype(int),
            list(counts.index),
            f"{best} on the test set",
        ),
    }


def main() -> None:
    """Run the step on the project's folders."""
    command.parser(__doc__).parse_args()
    pictures = report(
        train=splits.load(NORMALIZED, "train"),
        valid=splits.load(NORMALIZED, "valid"),
        trained=candidates.read(),
        loss={
            name: pd.read_csv(MODELS / f"{name}.loss.csv")["loss"].to_numpy()
            for name in candidates.networks()
        },
        confusion=pd.read_csv(REPORTS / "confusion.csv"),
        predictions=pd.read_csv(REPORTS / "predictions.csv"),
        best=json.loads((REPORTS / "metrics.json").read_text())["best"],
    )
    for name, figure in pictures.items():
        files.write_bytes(REPORTS / "figures" / f"{name}.png", figures.png(figure))
    print(f"{len(pictures)} figures in {REPORTS / 'figures'}")


if __name__ == "__main__":
    command.run(main)
