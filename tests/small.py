"""The project's folders as the pipeline leaves them, on the small data set."""

import shutil
from pathlib import Path

import yaml
from samples import ROOT

from tasks.baseline import Baseline, baseline
from tasks.dataset import splits
from tasks.dataset.splits import Facts
from tasks.modeling import model_file

VARIANTS = {
    "autograd": {"layer": "scratch", "update": "sgd", "learning_rate": 0.003},
    "analytic": {
        "layer": "scratch",
        "gradient": "analytic",
        "update": "manual",
        "learning_rate": 0.003,
    },
}


def lay_out(root: Path, parts: tuple[dict, Facts], params: dict) -> Path:
    """Write data, baseline and params.yaml under `root`, with two small variants."""
    by_name, facts = parts
    params["train"].update(variants=VARIANTS, device="cpu")
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    shutil.copytree(ROOT / "datasets", root / "datasets")
    splits.save(root / "data" / "normalized", by_name, facts)
    # Fitted on a few images: more of them would be too easy.
    few = splits.Split(*(values[:60] for values in by_name["train"]))
    settings = Baseline.model_validate(params["baseline"])
    model_file.save(
        baseline(few, facts, settings), root / "models" / "baseline.safetensors"
    )
    return root
