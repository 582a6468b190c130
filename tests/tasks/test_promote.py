"""The step `promote`: its verdict, and the files that its command writes."""

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
from tasks.registry.champions import Event, SplitSizes
from tasks.registry.gate import Thresholds
from tasks.runtime.params import BadInput

SCORES = dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "ece"), 0.5)
SCORES |= {"rmse": 1.0, "mae": 1.0, "log_loss": 1.0}
SELECTED = {"set_aside": 1.0, "error": None, "error_low": None, "error_high": None}
SELECTION = {"threshold": None, "valid": SELECTED}
METRICS = {
    "max_error": 0.01,
    "models": {"baseline": {"train": SCORES, "valid": SCORES, "kept": SELECTION}},
    "best": "baseline",
    "test": SCORES,
    "by_hand": {},
}
LENIENT = Thresholds(min_accuracy=0, max_log_loss=9, max_class_drop=1, max_p_value=1)


FITTED: dict[int, Model] = {}


def fitted(images: int, parts) -> Model:
    """Return the baseline fitted on some images: more images make it better."""
    if images in FITTED:
        return FITTED[images]
    by_name, facts = parts
    few = Split(*(values[:images] for values in by_name["train"]))
    settings = Baseline(
        solver="lbfgs", C_images=50, device="cpu", max_iter=1000, tol=0.0001
    )
    return FITTED.setdefault(images, baseline(few, facts, settings))


@pytest.fixture
def checkout(tmp_path, parts, params, monkeypatch):
    """A checkout whose best model is the baseline, without a champion."""
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
    """Make `model` the best model of this run; return its MD5."""
    path = promote.MODELS / "baseline.safetensors"
    model_file.save(model, path)
    return champions.md5(path.read_bytes())


def test_the_first_candidate_is_compared_with_no_champion(parts):
    verdict = promote.promote(fitted(60, parts), None, parts[0]["valid"], LENIENT)
    assert verdict.reasons == []
    assert verdict.compared is None
    assert verdict.recall.keys() == set("0123456789")
    assert verdict.valid["accuracy"] > 0.5


def test_a_better_candidate_passes_and_a_worse_one_does_not(parts):
    bad, good, valid = fitted(60, parts), fitted(1000, parts), parts[0]["valid"]
    assert promote.promote(good, bad, valid, LENIENT).reasons == []
    (reason,) = promote.promote(bad, good, valid, LENIENT).reasons
    assert "not better than the champion" in reason


def test_a_better_candidate_must_also_reach_the_thresholds(parts):
    strict = LENIENT.model_copy(update={"min_accuracy": 1.0})
    verdict = promote.promote(
        fitted(1000, parts), fitted(60, parts), parts[0]["valid"], strict
    )
    (reason,) = verdict.reasons
    assert reason.endswith("is below the required 1")


def test_promote_makes_the_best_model_champion_once(
    checkout, parts, monkeypatch, capsys
):
    first = put(fitted(60, parts))
    run(monkeypatch)
    record = champions.current()
    assert (record.md5, record.replaces, record.compared) == (first, None, None)
    assert record.data == {"data/raw": "1.dir"}
    assert record.images == SplitSizes(train=1100, valid=300, test=300)
    assert record.parameters["solver"] == "lbfgs"
    assert champions.in_place(record)
    assert "It is the first champion." in capsys.readouterr().out

    files = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    run(monkeypatch)
    assert capsys.readouterr().out == "baseline is already the champion.\n"
    assert files == {path: path.read_bytes() for path in files}

    second = put(fitted(1000, parts))
    run(monkeypatch)
    record = champions.current()
    assert (record.md5, record.replaces) == (second, first)
    assert "images gained" in capsys.readouterr().out


def test_promote_refuses_with_status_3_and_keeps_the_champion(
    checkout, parts, monkeypatch, capsys
):
    good = put(fitted(1000, parts))
    run(monkeypatch)
    put(fitted(60, parts))
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch)
    assert ended.value.code == 3
    stderr = capsys.readouterr().err
    assert stderr.startswith("baseline was not promoted: it is not better than the ")
    assert champions.current().md5 == good
    assert len(champions.history()) == 1


def test_promote_refuses_a_model_that_was_rolled_back(
    checkout, parts, monkeypatch, capsys
):
    put(fitted(60, parts))
    run(monkeypatch)
    first, content = champions.current(), champions.FILE.read_bytes()
    put(fitted(1000, parts))
    run(monkeypatch)
    now = champions.current().md5
    event = Event(event="put back", time="now", instead_of=now, champion=first)
    champions.crown(event, content)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch)
    assert ended.value.code == 3
    assert "it was rolled back" in capsys.readouterr().err
    assert champions.current() == first


def test_a_missing_champion_file_is_refused_unless_it_is_lost(
    checkout, parts, monkeypatch, capsys
):
    put(fitted(60, parts))
    run(monkeypatch)
    champions.FILE.write_bytes(b"something else")
    put(fitted(1000, parts))
    with pytest.raises(BadInput, match="is not the champion recorded in"):
        run(monkeypatch)
    assert len(champions.history()) == 1
    run(monkeypatch, "--lost")
    assert champions.current().compared is None
    assert "whose file can't be used" in capsys.readouterr().out


def test_an_interrupted_promotion_is_completed_by_the_next_run(
    checkout, parts, monkeypatch
):
    put(fitted(60, parts))
    run(monkeypatch)
    champions.RECORD.unlink()
    champions.FILE.write_bytes(b"half of it")
    run(monkeypatch)
    assert champions.in_place(champions.current())


def test_the_record_lists_data_in_alphabetical_order(checkout, parts, monkeypatch):
    outs = [{"path": "data/raw", "md5": "1"}, {"path": "data/normalized", "md5": "2"}]
    text = yaml.safe_dump({"stages": {"s": {"outs": outs}}}, sort_keys=False)
    (checkout / "dvc.lock").write_text(text)
    put(fitted(60, parts))
    run(monkeypatch)
    record = json.loads(champions.RECORD.read_text())
    assert list(record["data"]) == ["data/normalized", "data/raw"]


def test_a_champion_of_an_earlier_version_is_compared_by_its_record(
    checkout, parts, monkeypatch
):
    first = put(fitted(60, parts))
    run(monkeypatch)

    def outdated(path):
        if path == champions.FILE:
            raise model_file.Outdated("It was written by an earlier version.")
        return load(path)

    load = model_file.load
    monkeypatch.setattr(model_file, "load", outdated)
    put(fitted(1000, parts))
    run(monkeypatch)
    record = champions.current()
    assert (record.replaces, record.compared) == (first, None)
    assert (record.title, record.architecture) == ("small digits", "linear")


def renamed(model: Model, title: str) -> Model:
    """Return the model with another title of its data."""
    description = model.description.model_copy(update={"title": title})
    return model.model_copy(update={"description": description})


def test_the_last_champion_of_the_same_data_is_compared(
    checkout, parts, monkeypatch, capsys
):
    put(fitted(1000, parts))
    run(monkeypatch)
    put(renamed(fitted(40, parts), "other digits"))
    run(monkeypatch)
    assert champions.current().compared is None
    assert "baseline, which was trained on other data." in capsys.readouterr().out

    put(fitted(12, parts))
    with pytest.raises(SystemExit):
        run(monkeypatch)
    assert "the lower bound of the champion's" in capsys.readouterr().err
    put(fitted(1001, parts))
    run(monkeypatch)
    assert champions.current().title == "small digits"


def test_a_champion_of_other_images_is_compared_by_its_record(
    checkout, parts, monkeypatch, capsys
):
    first = put(fitted(60, parts))
    run(monkeypatch)
    load = model_file.load

    def of_smaller_images(path):
        model = load(path)
        if path != champions.FILE:
            return model
        form = model.description.form.model_copy(update={"box": 5})
        description = model.description.model_copy(update={"form": form})
        return model.model_copy(update={"description": description})

    monkeypatch.setattr(model_file, "load", of_smaller_images)
    put(fitted(1000, parts))
    run(monkeypatch)
    record = champions.current()
    assert (record.replaces, record.compared) == (first, None)
