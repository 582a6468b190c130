import argparse

import pytest
import yaml

from tasks import grids
from tasks.grids import Grid, Point
from tasks.runtime.params import BadInput

TRAIN = {
    "batch_size": 64,
    "epochs": 1,
    "variants": {
        "slow": {"update": "sgd", "learning_rate": 0.01, "layer": "scratch"},
        "fast": {"update": "adam", "learning_rate": 0.3, "batch_size": 32},
    },
}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump({"train": TRAIN}, sort_keys=False)
    )
    monkeypatch.chdir(tmp_path)


def test_what_is_not_asked_for_is_as_in_params_yaml():
    points = Grid(seeds=1).points()
    assert points[:5] == [
        Point("slow", rate, 64, 0) for rate in (0.001, 0.003, 0.01, 0.03, 0.1)
    ]
    assert points[5:] == [
        Point("fast", rate, 32, 0) for rate in (0.03, 0.09, 0.3, 0.9, 3.0)
    ]


def test_a_grid_is_every_combination_once():
    grid = Grid.of(
        {
            "variants": ["fast", "fast"],
            "learning_rates": [0.2, 0.1, 0.2],
            "batch_sizes": [64, 16],
            "seeds": 2,
        }
    )
    assert grid.points() == [
        Point("fast", rate, size, seed)
        for rate in (0.1, 0.2)
        for size in (16, 64)
        for seed in (0, 1)
    ]


def test_a_training_is_called_by_its_settings():
    assert str(Point("slow", 0.01, 64, 3)) == "slow, rate 0.01, batches of 64, seed 3"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"variants": ["Slow"]}, "`--variants` has 'Slow', but string should match"),
        ({"learning_rates": [0]}, "`--learning-rates` has 0, but input should be gre"),
        ({"learning_rates": [float("inf")]}, "`--learning-rates` has inf, but"),
        ({"batch_sizes": [0]}, "`--batch-sizes` has 0, but input should be greater"),
        ({"seeds": 0}, "`--seeds` has 0, but input should be greater than"),
    ],
)
def test_a_value_that_can_not_be_is_one_sentence(asked, sentence):
    with pytest.raises(BadInput, match=sentence):
        Grid.of(asked)


def test_an_unknown_variant_is_one_sentence():
    with pytest.raises(BadInput, match="has no 'quick'; it has slow, fast"):
        Grid(variants=("quick",)).points()


def test_too_many_trainings_are_refused():
    with pytest.raises(BadInput, match="These are 100,000 trainings, and 10,000 are"):
        Grid(seeds=10_000).points()


def test_the_command_line_asks_for_a_grid():
    parser = argparse.ArgumentParser()
    grids.add_arguments(parser)
    words = "--variants slow --learning-rates 0.1 1e-2 --batch-sizes 8 --seeds 4"
    assert Grid.of(vars(parser.parse_args(words.split()))) == Grid(
        variants=("slow",), learning_rates=(0.1, 0.01), batch_sizes=(8,), seeds=4
    )
