"""The history of champions, and the files derived from it."""

import json

import pytest

from tasks.registry import champions
from tasks.registry.champions import CARD, FILE, HISTORY, RECORD, Event, Record
from tasks.runtime.params import BadInput

pytestmark = pytest.mark.usefixtures("nowhere")


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def model(name: str) -> bytes:
    return f"the weights of {name}".encode()


def crown(record: Record, name: str, event: str = "promoted") -> Record:
    """Make the model `name` the champion and return its record."""
    before = champions.current()
    md5 = before.md5 if before else None
    crowned = record.model_copy(
        update={"model": name, "md5": champions.md5(model(name)), "replaces": md5}
    )
    at = "2026-11-23T02:00:00+00:00"
    champions.crown(
        Event(event=event, time=at, instead_of=md5, champion=crowned), model(name)
    )
    return crowned


def test_an_empty_history_has_no_champion(record):
    assert champions.history() == []
    assert champions.current() is None
    assert champions.rejected() == set()
    assert not champions.in_place(record)


def test_the_champion_is_the_last_of_the_history(record):
    first, second = crown(record, "first"), crown(record, "second")
    assert [event.champion for event in champions.history()] == [first, second]
    assert champions.current() == second
    assert champions.in_place(second)
    assert not champions.in_place(first)
    assert FILE.read_bytes() == model("second")
    assert Record.model_validate_json(RECORD.read_bytes()) == second
    assert CARD.read_text().startswith("# Model card: second\n")


@pytest.mark.parametrize("path", [FILE, RECORD, CARD], ids=lambda path: path.name)
def test_missing_and_damaged_files_are_detected_and_restored(record, path):
    crowned = crown(record, "first")
    path.write_text("something else")
    assert not champions.in_place(crowned)
    path.unlink()
    assert not champions.in_place(crowned)
    assert champions.settled(model("first")) == crowned
    assert champions.in_place(crowned)
    assert champions.settled(model("second")) is None


def test_a_model_that_was_rolled_back_is_rejected_until_put_back(record):
    first, second = crown(record, "first"), crown(record, "second")
    assert champions.rejected() == set()
    crown(record, "first", "put back")
    assert champions.rejected() == {second.md5}
    crown(record, "second", "put back")
    assert champions.rejected() == {first.md5}


def test_a_model_file_with_another_md5_changes_nothing(record):
    crowned = crown(record, "first")
    other = Event(event="promoted", time="now", instead_of=None, champion=record)
    with pytest.raises(BadInput, match=f"{record.md5} has another MD5"):
        champions.crown(other, model("first"))
    with pytest.raises(BadInput, match="another MD5"):
        champions.put_in_place(crowned, model("second"))
    assert champions.current() == crowned
    assert champions.in_place(crowned)


@pytest.mark.parametrize("line", ["{}", "<<<<<<< HEAD", '{"event": "deposed"}'])
def test_an_invalid_history_is_refused_with_the_line(record, line):
    crown(record, "first")
    with HISTORY.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadInput, match="Line 2 of models/champions.jsonl"):
        champions.current()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "../model"),
        ("model", "<script>alert(1)</script>"),
        ("images", {"train": 1, "valid": 0, "test": 1}),
        ("valid", {"accuracy": 0.9}),
        ("test", {}),
        ("recall", {}),
        ("recall", {"0": 2.0}),
    ],
)
def test_an_invalid_record_is_refused(record, key, value):
    crown(record, "first")
    change = json.loads(HISTORY.read_text())
    change["champion"][key] = value
    HISTORY.write_text(json.dumps(change) + "\n")
    with pytest.raises(BadInput, match="Line 1 of models/champions.jsonl"):
        champions.current()


def test_the_history_has_one_line_of_json_per_change(record):
    crown(record, "first")
    crown(record, "second")
    lines = HISTORY.read_text().splitlines()
    assert [json.loads(line)["champion"]["model"] for line in lines] == [
        "first",
        "second",
    ]
