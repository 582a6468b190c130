import numpy as np
import pandas as pd
from conftest import ROOT

from tasks.baseline import Baseline, baseline
from tasks.evaluate import evaluate
from tasks.report import report
from tasks.settings import load


def test_the_lessons_pictures_are_all_there(parts):
    splits, scale = parts
    settings = load("baseline", Baseline, ROOT / "params.yaml")
    trained = {"baseline": baseline(splits["train"], scale, settings)}
    result = evaluate(trained, splits)
    pictures = report(
        train=splits["train"],
        valid=splits["valid"],
        trained=trained,
        loss={"network": np.linspace(2, 1, 50)},
        confusion=result.confusion,
        predictions=result.predictions.reset_index(),
        best="baseline",
    )
    assert list(pictures) == [
        "digit",
        "crop",
        "predictions",
        "loss",
        "weights",
        "confusion",
    ]
    counts = pd.DataFrame(result.confusion).query("split == 'test'")["images"]
    written = [t.get_text() for t in pictures["confusion"].axes[0].texts]
    assert sum(int(text or 0) for text in written) == counts.sum() == 300
