"""The flow that runs the step `predict`."""

import json

import numpy as np
import pytest
from handmade import checkout_with_bars, lying, upright
from prefect import get_client
from samples import ROOT

from flows import predict

pytestmark = pytest.mark.slow


def test_flow_shows_the_least_certain_images(tmp_path, prefect_server, monkeypatch):
    checkout = checkout_with_bars(tmp_path)
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(predict, "ROOT", checkout)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    some = np.stack([upright(), lying(), upright()])
    np.save(tmp_path / "some" / "many.npy", some)
    state = predict.predict(
        ["some"],
        model="bars",
        out=str(checkout / "there"),
        format="parquet",
        start=str(tmp_path),
        return_state=True,
    )
    assert state.is_completed()
    assert state.message.startswith("7 images read by bars (")
    assert {path.name for path in (checkout / "there").iterdir()} == {
        "contact_sheet.html",
        "predictions.json",
        "predictions.parquet",
    }
    wanted = {"artifacts": {"key": {"any_": ["predictions"]}}}
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/artifacts/latest/filter", json=wanted)
    (artifact,) = answer.json()
    assert len(json.loads(artifact["data"])) == 6
    assert "7 images, read by bars" in artifact["description"]
    state = predict.predict(["nowhere"], model="bars", return_state=True)
    assert state.is_failed()
    assert "'nowhere' does not exist" in state.message
