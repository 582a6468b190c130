import pytest

from tasks.runtime.params import BadInput
from tasks.training.settings import Train
from tasks.tuning import grid
from tasks.tuning.grid import Grid, Point

TRAIN = Train.model_validate(
    {
        "seed": 0,
        "device": "cpu",
        "batch_size": 64,
        "epochs": 1,
        "variants": {
            "slow": {"update": "sgd", "learning_rate": 0.01, "layer": "scratch"},
            "fast": {
                "update": "adam",
                "learning_rate": 0.3,
                "layer": "sequential",
                "batch_size": 32,
            },
        },
    }
)


def point(variant, rate, size, seed):
    return Point(variant=variant, learning_rate=rate, batch_size=size, seed=seed)


def test_settings_default_to_those_of_params_yaml():
    points = Grid(seeds=1).points(TRAIN)
    assert points[:5] == [
        point("slow", rate, 64, 0) for rate in (0.001, 0.003, 0.01, 0.03, 0.1)
    ]
    assert points[5:] == [
        point("fast", rate, 32, 0) for rate in (0.03, 0.09, 0.3, 0.9, 3.0)
    ]


def test_grid_has_every_combination_once():
    grid = Grid.parse(
        {
            "variants": ["fast", "fast"],
            "learning_rates": [0.2, 0.1, 0.2],
            "batch_sizes": [64, 16],
            "seeds": 2,
        }
    )
    assert grid.points(TRAIN) == [
        point("fast", rate, size, seed)
        for rate in (0.1, 0.2)
        for size in (16, 64)
        for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"variants": ["Slow"]}, "`--variants` is 'Slow'"),
        ({"learning_rates": [0]}, "`--learning-rates` is 0"),
        ({"learning_rates": [float("inf")]}, "`--learning-rates` is inf"),
        ({"batch_sizes": [0]}, "`--batch-sizes` is 0"),
        ({"seeds": 0}, "`--seeds` is 0"),
    ],
)
def test_invalid_options_are_refused(options, reason):
    with pytest.raises(BadInput, match=reason):
        Grid.parse(options)


def test_unknown_variants_are_refused():
    with pytest.raises(BadInput, match="has no 'quick'; it has slow, fast"):
        Grid(variants=("quick",)).points(TRAIN)


def test_too_many_trainings_are_refused():
    with pytest.raises(BadInput, match="has 3,000 trainings, more than 300"):
        Grid(seeds=300).points(TRAIN)


def test_every_point_has_a_unique_name():
    points = [*Grid(seeds=3).points(TRAIN), point("slow", 1e30, 64, 0)]
    names = [each.name for each in points]
    assert len(set(names)) == len(points) == 31
    assert names[0] == "slow-0.001-64-0"
    assert names[-1] == "slow-1e+30-64-0"


def test_points_are_read_back_as_they_were_written(tmp_path):
    points = [*Grid(seeds=2).points(TRAIN), point("slow", 1e30, 64, 0)]
    grid.write(tmp_path / "points.yaml", points)
    read = grid.read(tmp_path / "points.yaml")
    assert list(read.values()) == points
    assert list(read) == [each.name for each in points]


def test_points_are_replaced_as_a_whole(tmp_path):
    path, link = tmp_path / "points.yaml", tmp_path / "link.yaml"
    grid.write(path, [point("slow", 1e30, 64, 0)])
    link.hardlink_to(path)
    grid.write(path, Grid(seeds=2).points(TRAIN))
    assert len(grid.read(link)) == 1, "the old file was overwritten in place"
