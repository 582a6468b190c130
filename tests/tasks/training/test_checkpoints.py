import numpy as np
import pytest
import torch

from tasks.training import checkpoints

TENSORS = {"a": torch.arange(3.0), "b": torch.eye(2, dtype=torch.int64)}


def test_what_is_kept_is_found_under_its_fingerprint_only(tmp_path):
    checkpoints.save(tmp_path / "kept", "mark", TENSORS)
    kept = checkpoints.load(tmp_path / "kept", "mark")
    assert kept.keys() == TENSORS.keys()
    assert all(torch.equal(kept[name], TENSORS[name]) for name in TENSORS)
    assert checkpoints.load(tmp_path / "kept", "other") is None
    assert checkpoints.load(tmp_path / "none", "mark") is None


@pytest.mark.parametrize("size", [0, 7, 20, 100])
def test_what_is_not_whole_is_not_found(tmp_path, size):
    path = tmp_path / "kept"
    checkpoints.save(path, "mark", TENSORS)
    path.write_bytes(path.read_bytes()[:size])

    assert checkpoints.load(path, "mark") is None
    assert checkpoints.load(tmp_path, "mark") is None, "nor is a folder"


def test_a_fingerprint_is_of_settings_and_data():
    pixels = np.arange(6, dtype=np.uint8)
    mark = checkpoints.fingerprint({"a": 1, "b": 2}, pixels)
    assert mark == checkpoints.fingerprint({"b": 2, "a": 1}, pixels.copy())
    assert mark != checkpoints.fingerprint({"a": 1, "b": 3}, pixels)
    assert mark != checkpoints.fingerprint({"a": 1, "b": 2}, pixels[::-1])
