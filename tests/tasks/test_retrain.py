import sys

import numpy as np
import pytest
from small import lay_out

from tasks import repeats, retrain, train
from tasks.runtime.params import BadInput, load
from tasks.training.settings import Train


@pytest.fixture
def root(tmp_path, parts, params, monkeypatch):
    monkeypatch.chdir(lay_out(tmp_path, parts, params))
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["retrain", *arguments])
    retrain.main()


def test_a_seed_gives_the_model_that_the_step_gives_with_it(root, parts):
    settings = load("train", Train)
    one, again = (
        retrain.retrain(*parts, settings, "autograd", seed) for seed in (5, 5)
    )
    other = retrain.retrain(*parts, settings, "autograd", 6)
    by_name, facts = parts
    model, _ = train.train(
        by_name["train"],
        by_name["valid"],
        facts,
        settings.model_copy(update={"seed": 5}),
        "autograd",
    )
    predictions = model.predict(by_name["valid"].images)
    assert np.array_equal(np.frombuffer(one.predictions, np.uint8), predictions)
    assert one.valid == np.mean(predictions == by_name["valid"].labels)
    assert one == again
    assert one.predictions != other.predictions


def test_what_is_kept_is_not_trained_again(root, monkeypatch, capsys):
    run(monkeypatch, "analytic", "1")
    said = capsys.readouterr().out
    assert said.startswith("analytic, seed 1: accuracy 0.")
    monkeypatch.setattr(retrain, "retrain", None)
    run(monkeypatch, "analytic", "1")
    assert capsys.readouterr().out == said
    assert len(list(repeats.FOLDER.iterdir())) == 1


def test_a_result_of_data_that_changed_meanwhile_is_not_kept(root, monkeypatch):
    real = retrain.retrain

    def slow(*arguments):
        path = root / "data" / "normalized" / "facts.json"
        path.write_text(path.read_text() + "\n")
        return real(*arguments)

    monkeypatch.setattr(retrain, "retrain", slow)
    with pytest.raises(BadInput, match="changed while this ran"):
        run(monkeypatch, "analytic", "1")
    assert not repeats.FOLDER.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["analytical", "1"], "has no 'analytical'; it has autograd, analytic"),
        (["analytic", "-1"], "The seed is -1; give one from 0 up"),
    ],
)
def test_what_can_not_be_trained_is_one_sentence(
    root, monkeypatch, arguments, sentence
):
    with pytest.raises(BadInput, match=sentence):
        run(monkeypatch, *arguments)
