import json
import sys

import numpy as np
import pytest
from conftest import ROOT
from small import lay_out

from tasks import repeats, retrain, spread
from tasks.repeats import Repeat
from tasks.runtime.params import BadInput

LABELS = np.array([0, 1, 2, 3, 4, 5, 6, 7], dtype=np.uint8)


def repeat(variant, seed, predictions, test=0.9):
    predictions = np.array(predictions, dtype=np.uint8)
    return Repeat(
        variant=variant,
        architecture="linear",
        seed=seed,
        valid=float(np.mean(predictions == LABELS)),
        test=test,
        predictions=predictions.tobytes(),
    )


def rows(*texts):
    """Rows of right (1) and wrong (0)."""
    return np.array([[mark == "1" for mark in text] for text in texts])


def test_the_deviation_is_numpys_with_n_minus_1():
    values = [0.91, 0.92, 0.9, 0.915]
    assert spread.mean_and_deviation(values) == {
        "mean": round(np.mean(values), 7),
        "sd": round(np.std(values, ddof=1), 7),
    }
    assert spread.mean_and_deviation([1, 3]) == {"mean": 2, "sd": 1.4142136}
    assert spread.mean_and_deviation([0.9]) == {"mean": 0.9, "sd": None}


def test_two_models_are_compared_image_by_image_and_seed_by_seed():
    # In the first seed 4 images are right by one alone and 1 by the other alone. Of the
    # 32 ways that 5 coins fall, 12 are as uneven as that: p = 0.375.
    one = rows("11110011", "11111111")
    other = rows("00001011", "11111100")
    assert spread.compare(one, other) == {
        "difference": 0.3125,  # of 3/8 and 2/8
        "sd": 0.0883883,  # (1/8) / sqrt(2)
        "only_one_right": 4,
        "only_other_right": 1,
        "p_value": 0.375,
    }


def test_models_that_agree_do_not_differ():
    assert spread.compare(rows("1100"), rows("1100")) == {
        "difference": 0,
        "sd": None,
        "only_one_right": 0,
        "only_other_right": 0,
        "p_value": 1,
    }


def test_one_result_stands_for_every_seed():
    compared = spread.compare(rows("1110"), rows("1100", "0000"))
    assert compared["difference"] == 0.5
    assert compared["sd"] == 0.3535534


def test_the_report_has_every_model_and_every_pair():
    good, bad = [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 0, 0, 0, 0]
    report = spread.spread(
        {
            "baseline": [repeat("baseline", None, good)],
            "sgd": [repeat("sgd", 0, bad), repeat("sgd", 1, good, test=0.92)],
        },
        LABELS,
        0.95,
    )
    assert report == {
        "models": {
            "baseline": {
                "n": 1,
                "valid": {"mean": 1, "sd": None},
                "test": {"mean": 0.9, "sd": None},
            },
            "sgd": {
                "n": 2,
                "valid": {"mean": 0.75, "sd": 0.3535534},
                "test": {"mean": 0.91, "sd": 0.0141421},
            },
        },
        "pairs": [
            {
                "one": "baseline",
                "other": "sgd",
                "difference": 0.25,
                "sd": 0.3535534,
                "only_one_right": 4,
                "only_other_right": 0,
                "p_value": 0.125,
            }
        ],
    }


def test_a_model_too_good_to_be_true_is_refused():
    fine = repeat("sgd", 0, LABELS, test=0.93)
    spread.spread({"sgd": [fine]}, LABELS, 0.93)
    with pytest.raises(
        BadInput,
        match="sgd with seed 1 has accuracy 0.9301 on the test set, above 0.93: "
        "a linear model can't be that good on this data; look for test images",
    ):
        spread.spread(
            {"sgd": [fine, repeat("sgd", 1, LABELS, test=0.9301)]}, LABELS, 0.93
        )
    with pytest.raises(BadInput, match="^baseline has accuracy 0.99"):
        spread.spread(
            {"baseline": [repeat("baseline", None, LABELS, 0.99)]}, LABELS, 0.93
        )


def test_only_linear_models_have_a_limit_and_only_where_one_is_known():
    fine = repeat("cnn", 0, LABELS, test=0.99)
    spread.spread(
        {"cnn": [fine.model_copy(update={"architecture": "cnn"})]}, LABELS, 0.93
    )
    spread.spread({"sgd": [fine]}, LABELS, None)


@pytest.fixture
def trained(tmp_path, parts, params, monkeypatch):
    """A project whose variants are trained with two seeds."""
    monkeypatch.chdir(lay_out(tmp_path, parts, params))
    for variant in ("autograd", "analytic"):
        for seed in ("0", "1"):
            monkeypatch.setattr(sys, "argv", ["retrain", variant, seed])
            retrain.main()
    return tmp_path


def run(monkeypatch, number):
    monkeypatch.setattr(sys, "argv", ["spread", number])
    spread.main()


def test_the_command_writes_the_same_bytes_again(trained, monkeypatch):
    run(monkeypatch, "2")
    written = spread.REPORT.read_bytes()
    run(monkeypatch, "2")
    assert spread.REPORT.read_bytes() == written
    report = json.loads(written)
    assert {name: one["n"] for name, one in report["models"].items()} == {
        "baseline": 1,
        "autograd": 2,
        "analytic": 2,
    }
    assert report["recipes"] == repeats.recipes()


def test_nothing_is_written_of_what_is_not_all_there(trained, monkeypatch):
    with pytest.raises(BadInput, match="autograd has not been trained with seed 2"):
        run(monkeypatch, "3")
    with pytest.raises(BadInput, match="The number of seeds is 0"):
        run(monkeypatch, "0")
    mark = repeats.marks()["analytic"]
    kept = repeats.load("analytic", 1, mark)
    repeats.save(kept.model_copy(update={"test": 0.95}), mark)
    with pytest.raises(BadInput, match="analytic with seed 1 has accuracy 0.9500"):
        run(monkeypatch, "2")
    assert not spread.REPORT.exists()


def test_the_committed_report_was_made_by_the_committed_code(monkeypatch):
    monkeypatch.chdir(ROOT)
    report = json.loads(spread.REPORT.read_text())
    assert report["recipes"] == repeats.recipes(), "run `make seeds`"
    assert min(report["models"][name]["n"] for name in report["recipes"]) >= 10
