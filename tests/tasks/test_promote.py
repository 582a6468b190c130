"""The step `promote`: what it finds, and the files that its command leaves."""

import json
import sys

import pytest
import yaml
from small import lay_out

from tasks import promote
from tasks.baseline import Baseline, baseline
from tasks.dataset.splits import Split
from tasks.modeling import model_file
from tasks.modeling.model_file import Model
from tasks.registry import champions
from tasks.registry.champions import SplitSizes
from tasks.registry.gate import Thresholds
from tasks.runtime.params import BadInput

SCORES = dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "ece"), 0.5)
SCORES |= {"rmse": 1.0, "mae": 1.0, "log_loss": 1.0}
KEPT = {"set_aside": 1.0, "error": None, "error_low": None, "error_high": None}
SELECTION = {"threshold": None, "valid": KEPT}
METRICS = {
    "max_error": 0.01,
    "models": {"baseline": {"train": SCORES, "valid": SCORES, "kept": SELECTION}},
    "best": "baseline",
    "test": SCORES,
    "by_hand": {},
}
LENIENT = Thresholds(min_accuracy=0, max_log_loss=9, max_class_drop=1, max_p_value=1)


def of(images: int, parts) -> Model:
    """The baseline, fitted on so many images: more of them make it better."""
    by_name, facts = parts
    few = Split(*(values[:images] for values in by_name["train"]))
    settings = Baseline(
        solver="lbfgs", C_images=50, device="cpu", max_iter=1000, tol=0.0001
    )
    return baseline(few, facts, settings)


@pytest.fixture
def checkout(tmp_path, parts, params, monkeypatch):
    """A checkout whose best model is the baseline, with room for a champion."""
    params["promote"] = LENIENT.model_dump()
    root = lay_out(tmp_path, parts, params)
    outs = [{"path": "data/raw", "md5": "1.dir"}, {"path": "models/a", "md5": "2"}]
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"s": {"outs": outs}}}))
    (root / "reports").mkdir()
    (root / "reports" / "metrics.json").write_text(json.dumps(METRICS))
    monkeypatch.chdir(root)
    return root


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["promote", *arguments])
    promote.main()


def put(model: Model) -> str:
    """Let `model` be the best of this run; return its MD5."""
    path = promote.MODELS / "baseline.safetensors"
    model_file.save(model, path)
    return champions.md5(path.read_bytes())


def test_the_first_candidate_has_nobody_to_beat(parts):
    verdict = promote.promote(of(60, parts), None, parts[0]["valid"], LENIENT)
    assert verdict.reasons == []
    assert verdict.compared is None
    assert verdict.recall.keys() == set("0123456789")
    assert verdict.valid["accuracy"] > 0.5


def test_the_better_of_two_passes_and_the_worse_does_not(parts):
    bad, good, valid = of(60, parts), of(1000, parts), parts[0]["valid"]
    assert promote.promote(good, bad, valid, LENIENT).reasons == []
    (reason,) = promote.promote(bad, good, valid, LENIENT).reasons
    assert reason.startswith("it is no better than the champion's ")


def test_the_candidate_must_reach_the_thresholds_even_if_it_is_better(parts):
    strict = LENIENT.model_copy(update={"min_accuracy": 1.0})
    verdict = promote.promote(of(1000, parts), of(60, parts), parts[0]["valid"], strict)
    (reason,) = verdict.reasons
    assert reason.endswith("is below the 1 asked for")


def test_the_command_crowns_the_best_and_twice_changes_nothing(
    checkout, parts, monkeypatch, capsys
):
    first = put(of(60, parts))
    run(monkeypatch)
    record = champions.current()
    assert (record.md5, record.replaces, record.compared) == (first, None, None)
    assert record.data == {"data/raw": "1.dir"}
    assert record.images == SplitSizes(train=1100, valid=300, test=300)
    assert record.parameters["solver"] == "lbfgs"
    assert champions.in_place(record)
    assert "and there was none before." in capsys.readouterr().out

    files = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    run(monkeypatch)
    assert capsys.readouterr().out == "baseline is the champion already.\n"
    assert files == {path: path.read_bytes() for path in files}

    second = put(of(1000, parts))
    run(monkeypatch)
    record = champions.current()
    assert (record.md5, record.replaces) == (second, first)
    assert "images gained" in capsys.readouterr().out


def test_the_command_refuses_with_status_3_and_leaves_the_champion(
    checkout, parts, monkeypatch, capsys
):
    good = put(of(1000, parts))
    run(monkeypatch)
    put(of(60, parts))
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch)
    assert ended.value.code == 3
    said = capsys.readouterr().err
    assert said.startswith("baseline was not promoted: it is no better than the ")
    assert champions.current().md5 == good
    assert len(champions.history()) == 1


def test_a_champion_that_is_not_in_place_is_not_passed_over(
    checkout, parts, monkeypatch, capsys
):
    put(of(60, parts))
    run(monkeypatch)
    champions.FILE.write_bytes(b"something else")
    put(of(1000, parts))
    with pytest.raises(BadInput, match="is not the champion that models/champions"):
        run(monkeypatch)
    assert len(champions.history()) == 1
    # Unless it is lost: then it is held to the record.
    run(monkeypatch, "--lost")
    assert champions.current().compared is None
    assert "whose file is no use" in capsys.readouterr().out


def test_what_was_interrupted_is_mended_the_next_time(checkout, parts, monkeypatch):
    put(of(60, parts))
    run(monkeypatch)
    champions.RECORD.unlink()
    champions.FILE.write_bytes(b"half of it")
    run(monkeypatch)
    assert champions.in_place(champions.current())


def test_the_record_is_the_same_whatever_order_dvc_lock_has(
    checkout, parts, monkeypatch
):
    outs = [{"path": "data/raw", "md5": "1"}, {"path": "data/normalized", "md5": "2"}]
    text = yaml.safe_dump({"stages": {"s": {"outs": outs}}}, sort_keys=False)
    (checkout / "dvc.lock").write_text(text)
    put(of(60, parts))
    run(monkeypatch)
    record = json.loads(champions.RECORD.read_text())
    assert list(record["data"]) == ["data/normalized", "data/raw"]


def test_a_champion_of_an_earlier_version_is_held_to_its_record(
    checkout, parts, monkeypatch
):
    first = put(of(60, parts))
    run(monkeypatch)

    def outdated(path):
        if path == champions.FILE:
            raise model_file.Outdated("It was written by an earlier version.")
        return load(path)

    load = model_file.load
    monkeypatch.setattr(model_file, "load", outdated)
    put(of(1000, parts))
    run(monkeypatch)
    record = champions.current()
    assert (record.replaces, record.compared) == (first, None)
    assert (record.title, record.architecture) == ("small digits", "linear")


def renamed(model: Model, title: str) -> Model:
    """The model as if it were of data with this title."""
    about = model.description.model_copy(update={"title": title})
    return model.model_copy(update={"description": about})


def test_a_champion_of_other_data_is_no_measure_but_one_before_it_is(
    checkout, parts, monkeypatch, capsys
):
    put(of(1000, parts))
    run(monkeypatch)
    put(renamed(of(40, parts), "other digits"))
    run(monkeypatch)
    assert champions.current().compared is None
    assert "baseline, which is of other data, was." in capsys.readouterr().out

    put(of(12, parts))
    with pytest.raises(SystemExit):
        run(monkeypatch)
    assert "below the interval of the champion's" in capsys.readouterr().err
    put(of(1001, parts))
    run(monkeypatch)
    assert champions.current().title == "small digits"


def test_a_champion_of_other_images_is_held_to_its_record(
    checkout, parts, monkeypatch, capsys
):
    first = put(of(60, parts))
    run(monkeypatch)
    load = model_file.load

    def of_smaller_images(path):
        model = load(path)
        if path != champions.FILE:
            return model
        form = model.description.form.model_copy(update={"box": 5})
        about = model.description.model_copy(update={"form": form})
        return model.model_copy(update={"description": about})

    monkeypatch.setattr(model_file, "load", of_smaller_images)
    put(of(1000, parts))
    run(monkeypatch)
    record = champions.current()
    assert (record.replaces, record.compared) == (first, None)
