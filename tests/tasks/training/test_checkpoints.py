import numpy as np
import pytest
import torch

from tasks.training.checkpoints import Checkpoint

TENSORS = {"a": torch.arange(3.0), "b": torch.eye(2, dtype=torch.int64)}


def test_checkpoint_is_read_back_until_it_is_removed(tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint", {})
    assert checkpoint.load() == {}
    checkpoint.save(TENSORS)
    torch.testing.assert_close(checkpoint.load(), TENSORS, rtol=0, atol=0)
    checkpoint.remove()
    assert checkpoint.load() == {}
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_is_replaced_as_a_whole(tmp_path):
    path, link = tmp_path / "checkpoint", tmp_path / "link"
    checkpoint = Checkpoint(path, {})
    checkpoint.save(TENSORS)
    link.hardlink_to(path)
    before = link.read_bytes()
    checkpoint.save({"a": torch.zeros(3)})
    assert link.read_bytes() == before != path.read_bytes()


def test_checkpoint_belongs_to_its_settings_and_data(tmp_path):
    def loaded(settings, pixels):
        return Checkpoint(tmp_path / "checkpoint", settings, pixels).load()

    pixels = np.arange(6, dtype=np.uint8)
    Checkpoint(tmp_path / "checkpoint", {"a": 1, "b": 2}, pixels).save(TENSORS)
    assert loaded({"b": 2, "a": 1}, pixels.copy())
    assert not loaded({"a": 1, "b": 3}, pixels)
    assert not loaded({"a": 1, "b": 2}, pixels[::-1])


@pytest.mark.parametrize("size", [0, 7, 20, 100])
def test_truncated_checkpoint_is_ignored(tmp_path, size):
    path = tmp_path / "checkpoint"
    checkpoint = Checkpoint(path, {})
    checkpoint.save(TENSORS)
    path.write_bytes(path.read_bytes()[:size])
    assert checkpoint.load() == {}


def test_folder_at_the_path_of_a_checkpoint_is_ignored(tmp_path):
    assert Checkpoint(tmp_path, {}).load() == {}


def test_checkpoint_without_path_saves_nothing():
    checkpoint = Checkpoint(None, {})
    checkpoint.save(TENSORS)
    assert checkpoint.load() == {}
    checkpoint.remove()
