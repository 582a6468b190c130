import numpy as np
import pytest

from tasks.runtime.params import BadInput
from tasks.trials import trial
from tasks.trials.trial import Trial

CORRECT = np.array([1, 0, 1, 1, 0, 1, 1, 1, 0, 1], dtype=bool)
TRIAL = Trial(
    architecture="linear",
    valid=0.7,
    test=0.9,
    images=10,
    packed=np.packbits(CORRECT).tobytes(),
)


def test_trial_is_read_back_as_it_was_written(tmp_path):
    path = tmp_path / "trials" / "one.json"
    for each in (TRIAL, Trial(architecture="cnn", diverged=True)):
        trial.save(path, each)
        assert trial.load(path) == each
    trial.save(path, TRIAL)
    assert np.array_equal(trial.load(path).correct, CORRECT)


def test_damaged_trial_is_refused(tmp_path):
    path = tmp_path / "one.json"
    trial.save(path, TRIAL)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadInput, match="one.json is damaged"):
        trial.load(path)


def test_large_trial_is_refused(tmp_path):
    path = tmp_path / "one.json"
    path.write_bytes(b" " * (trial.MAX_BYTES + 1))
    with pytest.raises(BadInput, match="one.json has more than 10,000,000 bytes"):
        trial.load(path)


def test_trial_is_replaced_as_a_whole(tmp_path):
    path, link = tmp_path / "one.json", tmp_path / "link.json"
    trial.save(path, TRIAL)
    link.hardlink_to(path)
    trial.save(path, Trial(architecture="cnn", diverged=True))
    assert trial.load(link) == TRIAL, "the old file was overwritten in place"
