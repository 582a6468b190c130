"""Measure the larger networks, which params.yaml disables by default.

Trains each commented variant with the seeds 0 to N - 1 on MNIST's 50,000 training
images, on one thread, as the step does. Nothing is chosen on the test set.
`python benchmarks/larger.py [N [VARIANT ...]]`; other variants keep their results.
"""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import measure
import numpy as np

sys.path.insert(0, str(measure.ROOT))

from tasks.dataset import splits
from tasks.runtime import cli, yaml_text
from tasks.runtime.params import load
from tasks.train import train
from tasks.training.settings import Train, Variant

RESULT = Path(__file__).with_name("results") / "larger.json"
OFF = re.compile(r"^    # (\w+): (\{.*\})$", re.MULTILINE)


def variants() -> dict[str, Variant]:
    """Return the commented variants of params.yaml."""
    text = (measure.ROOT / "params.yaml").read_text(encoding="utf-8")
    return {
        name: Variant.model_validate(yaml_text.parse(settings.encode()))
        for name, settings in OFF.findall(text)
    }


def measured(name: str, seed: int, settings: Train) -> dict[str, Any]:
    """Train a variant; return its accuracies and processor seconds.

    On one thread of an idle machine these are the wall-clock seconds.
    """
    folder = measure.ROOT / "data" / "normalized"
    parts = {part: splits.load(folder, part) for part in splits.SPLITS}
    settings = settings.model_copy(update={"seed": seed})
    started = time.process_time()
    model, _ = train(
        parts["train"], parts["valid"], splits.load_facts(folder), settings, name
    )
    seconds = time.process_time() - started
    valid, test = (
        round(float(np.mean(model.predict(part.images) == part.labels)), 4)
        for part in (parts["valid"], parts["test"])
    )
    return {
        "seed": seed,
        "epochs": settings.resolve(name).epochs,
        "seconds": round(seconds),
        "valid": valid,
        "test": test,
    }


def main() -> None:
    """Measure; write the results after every training."""
    seeds, *names = sys.argv[1:] or ["3"]
    cli.limit_threads()
    off = variants()
    settings = load("train", Train, measure.ROOT / "params.yaml").model_copy(
        update={"variants": off, "device": "cpu"}
    )
    for name in names or off:
        rows = []
        for seed in range(int(seeds)):
            rows.append(measured(name, seed, settings))
            print(name, rows[-1], flush=True)
            found = json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {}
            found |= {
                "machine": measure.machine(),
                "variants": {**found.get("variants", {}), name: rows},
            }
            RESULT.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
