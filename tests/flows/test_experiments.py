"""The experiments under plain `dvc repro`."""

import json
import re

import pytest
import yaml
from checkouts import edit, end, git, run
from imports import code_dependencies
from samples import ROOT

EXPERIMENTS = ROOT / "experiments"
UP_TO_DATE = "Data and pipelines are up to date.\n"


def stages_run(output: str) -> list[str]:
    """Return the stages whose commands `dvc repro` ran, from its output."""
    return re.findall(r"Running stage '(.+)'", output)


@pytest.mark.slow
def test_dvc_repro_trains_new_seeds_and_changed_variants(experimenting, prefect_server):
    seeds = experimenting / "experiments" / "seeds"
    trainings = [
        f"retrain@{variant}-{seed}"
        for variant in ("autograd", "analytic")
        for seed in (0, 1)
    ]
    output = run(seeds, prefect_server, "dvc", "repro")
    assert stages_run(output) == [*trainings, "compare_seeds"]
    report = json.loads((experimenting / "reports" / "seeds.json").read_text())
    assert {name: one["n"] for name, one in report["models"].items()} == {
        "baseline": 1,
        "autograd": 2,
        "analytic": 2,
    }
    assert len(report["pairs"]) == 3
    # `dvc status` of the pipeline ignores experiments; git shows the new results.
    assert run(experimenting, prefect_server, "dvc", "status") == UP_TO_DATE
    assert git(experimenting, "status", "--short").split() == [
        *("??", "experiments/seeds/dvc.lock"),
        *("??", "reports/seeds.json"),
    ]

    assert stages_run(run(seeds, prefect_server, "dvc", "repro")) == []
    assert run(seeds, prefect_server, "dvc", "status") == UP_TO_DATE

    edit(
        experimenting / "params.yaml",
        lambda params: params["train"]["variants"]["analytic"].update(
            learning_rate=0.002
        ),
    )
    (seeds / "seeds.yaml").write_text("seeds: [1, 2]\n")
    assert stages_run(run(seeds, prefect_server, "dvc", "repro")) == [
        "retrain@autograd-2",
        "retrain@analytic-1",
        "retrain@analytic-2",
        "compare_seeds",
    ]


@pytest.mark.slow
def test_a_suspiciously_good_model_leaves_no_report(experimenting, prefect_server):
    edit(
        experimenting / "datasets" / "mnist.yaml",
        lambda card: card["report"].update(suspicious=0.1),
    )
    (experimenting / "experiments" / "seeds" / "seeds.yaml").write_text("seeds: [0]\n")
    ended = end(experimenting / "experiments" / "seeds", prefect_server, "dvc", "repro")
    assert ended.returncode
    assert re.search(
        "baseline has accuracy .+ on the test set, above 0.1", ended.stdout
    )
    assert not (experimenting / "reports" / "seeds.json").exists()


@pytest.mark.parametrize(
    ("experiment", "stage"),
    [
        ("seeds", "retrain"),
        ("seeds", "compare_seeds"),
        ("sweep", "retrain"),
        ("sweep", "compare_settings"),
    ],
)
def test_a_stage_depends_on_the_code_that_it_imports(experiment, stage):
    stages = yaml.safe_load((EXPERIMENTS / experiment / "dvc.yaml").read_text())
    body = stages["stages"][stage]
    deps = body.get("do", body)["deps"]
    code = {dep for dep in deps if dep.startswith("tasks/")}
    assert code == code_dependencies(stage)


def test_a_training_depends_on_every_setting_but_the_seed():
    train = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]
    for experiment in ("seeds", "sweep"):
        text = (EXPERIMENTS / experiment / "dvc.yaml").read_text()
        body = yaml.safe_load(text)["stages"]["retrain"]
        tracked = set(body.get("do", body)["params"])
        settings = {f"train.{key}" for key in train if key not in {"seed", "variants"}}
        assert tracked == settings | {"train.variants.${item.variant}"}
