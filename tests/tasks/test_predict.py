"""The step `predict`, and its flow."""

import csv
import hashlib
import json
import sys
from pathlib import Path

import pytest
from handmade import checkout_with_bars

from tasks import predict
from tasks.registry import champions
from tasks.registry.champions import Event
from tasks.runtime import cli
from tasks.runtime.params import BadInput


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    root = checkout_with_bars(tmp_path)
    monkeypatch.chdir(root)
    return root


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    predict.main()


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def crown(record, content: bytes) -> None:
    """Make the model with this content the champion."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    champion = record.model_copy(update={"md5": md5, "model": "winner"})
    champions.HISTORY.parent.mkdir(exist_ok=True)
    event = Event(event="promoted", time="now", instead_of=None, champion=champion)
    champions.HISTORY.write_text(event.model_dump_json() + "\n")
    champions.FILE.write_bytes(content)


def test_predict_writes_a_table_a_contact_sheet_and_a_summary(
    checkout, monkeypatch, capsys
):
    run(monkeypatch, "some", "--start", checkout.parent, "--model", "bars")
    rows = table(checkout / "predictions" / "predictions.csv")
    assert [row["path"] for row in rows] == [f"some/{n}.png" for n in range(4)]
    assert [row["prediction"] for row in rows] == ["upright", "lying", "upright", ""]
    assert [row["set_aside"] for row in rows] == ["false"] * 3 + ["true"]
    assert rows[3]["reason"] == "it is not a PNG, JPEG or TIFF image"
    summary = json.loads((checkout / "predictions" / "predictions.json").read_text())
    content = (checkout / "models" / "bars.safetensors").read_bytes()
    assert summary["md5"] == hashlib.md5(content).hexdigest()
    assert {key: summary[key] for key in ("model", "images", "unusable")} == {
        "model": "bars",
        "images": 4,
        "unusable": 1,
    }
    assert (summary["temperature"], summary["threshold"]) == (0.5, 0.9)
    assert (checkout / "predictions" / "contact_sheet.html").is_file()
    assert "4 images read by bars" in capsys.readouterr().out


def test_the_champion_is_the_default_model(checkout, record):
    crown(record, (checkout / "models" / "bars.safetensors").read_bytes())
    for wanted in (None, "champion"):
        chosen = predict.choose(wanted, Path())
        assert (chosen.name, chosen.revision) == ("winner", "0123456789ab")


def test_a_champion_with_another_md5_is_not_used(checkout, record, capsys):
    crown(record, (checkout / "models" / "bars.safetensors").read_bytes())
    champions.FILE.write_bytes(b"other")
    with pytest.raises(BadInput, match="No champion can be used"):
        predict.choose("champion", Path())
    assert "winner, can't be used" in capsys.readouterr().err


def test_the_best_model_is_used_if_there_is_no_champion(checkout, monkeypatch):
    monkeypatch.setattr(predict.metrics_file, "read", lambda _: {"best": "bars"})
    assert predict.choose(None, Path()).name == "bars"


def test_predict_without_any_model_says_what_to_do(checkout):
    with pytest.raises(BadInput, match="run `python -m flows.pipeline`"):
        predict.choose(None, Path())


def test_a_model_can_be_a_name_or_a_path(checkout):
    by_path = predict.choose("models/bars.safetensors", checkout)
    assert by_path.md5 == predict.choose("bars", Path()).md5
    with pytest.raises(BadInput, match="There is no model 'none'; choose one of bars"):
        predict.choose("none", Path())


def test_an_error_leaves_the_last_table_unchanged(checkout, monkeypatch, capsys):
    out = checkout / "predictions" / "predictions.csv"
    out.parent.mkdir()
    out.write_text("before")
    (checkout / "params.yaml").write_text("evaluate: {}\n")
    monkeypatch.setattr(
        sys, "argv", ["x", str(checkout.parent / "some"), "--model=bars"]
    )
    with pytest.raises(SystemExit) as ended:
        cli.run(predict.main)
    assert ended.value.code == 1
    assert "`evaluate.max_error` is missing" in capsys.readouterr().err
    assert out.read_text() == "before"


def test_paths_can_be_read_from_a_file(checkout, monkeypatch):
    listed = checkout / "listed"
    listed.write_bytes(b"some/0.png\0some/1.png\0")
    run(monkeypatch, "--list", listed, "--start", checkout.parent, "--model", "bars")
    rows = table(checkout / "predictions" / "predictions.csv")
    assert [row["path"] for row in rows] == ["some/0.png", "some/1.png"]
