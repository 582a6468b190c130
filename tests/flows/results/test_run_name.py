"""What a run is called in the UI; its names and tags are seen in test_pipeline.py."""

from datetime import UTC, datetime

import pytest
from prefect.runtime import deployment, flow_run

from flows.results import run_name
from tasks.registry import provenance

METRICS = {"best": "baseline"}
LOCK = """\
stages:
  download: {outs: [{path: data/raw, md5: d0193be11ab497254ec.dir}]}
  evaluate: {outs: []}
"""


@pytest.mark.parametrize(
    ("who", "name"), [("nightly", "nightly 2026-11-23"), (None, "by hand 2026-11-23")]
)
def test_a_run_is_named_after_who_started_it_and_its_day(monkeypatch, who, name):
    at = datetime(2026, 11, 23, 12, tzinfo=UTC)
    monkeypatch.setattr(deployment, "name", who, raising=False)
    monkeypatch.setattr(flow_run, "scheduled_start_time", at, raising=False)
    assert run_name.begin() == name


def test_tags_tell_data_model_and_code(tmp_path, monkeypatch):
    (tmp_path / "dvc.lock").write_text(LOCK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(provenance, "revision", lambda: "0123456789ab")
    assert run_name.tags(METRICS) == [
        "best:baseline",
        "data:d0193be",
        "git:0123456789ab",
    ]
    monkeypatch.setattr(provenance, "revision", lambda: None)
    assert run_name.tags(METRICS) == ["best:baseline", "data:d0193be"]
