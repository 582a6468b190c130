import numpy as np
import pytest
import yaml
from conftest import ROOT
from small import VARIANTS, lay_out

from tasks import repeats
from tasks.repeats import Repeat
from tasks.runtime.params import BadInput

KEPT = Repeat(
    variant="analytic",
    architecture="linear",
    seed=3,
    valid=0.9,
    test=0.8,
    predictions=bytes([7, 0, 255]),
)


@pytest.fixture
def root(tmp_path, parts, params, monkeypatch):
    monkeypatch.chdir(lay_out(tmp_path, parts, params))
    return tmp_path


def edit(root, **changes):
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["train"].update(changes)
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def test_what_is_kept_comes_back_for_the_same_mark_alone(root):
    repeats.save(KEPT, "abc")
    assert repeats.load("analytic", 3, "abc") == KEPT
    assert repeats.load("analytic", 3, "abd") is None
    assert repeats.load("analytic", 4, "abc") is None


def test_what_is_damaged_is_not_there(root):
    repeats.save(KEPT, "abc")
    path = repeats.path("analytic", 3, "abc")
    path.write_bytes(path.read_bytes()[:40])
    assert repeats.load("analytic", 3, "abc") is None


def test_a_mark_is_of_the_variant_the_data_and_every_setting_but_the_seed(root):
    marks = repeats.marks()
    assert list(marks) == ["autograd", "analytic"]
    edit(root, seed=9)
    assert repeats.marks() == marks

    other = {**VARIANTS["autograd"], "learning_rate": 0.5}
    edit(root, variants=VARIANTS | {"autograd": other})
    assert repeats.marks()["autograd"] != marks["autograd"]
    assert repeats.marks()["analytic"] == marks["analytic"]

    edit(root, variants=VARIANTS, epochs=2)
    assert not set(repeats.marks().values()) & set(marks.values())
    edit(root, epochs=1)
    repeats.refuse_change(marks)

    labels = np.load(root / "data/normalized/valid-labels.npy")
    np.save(root / "data/normalized/valid-labels.npy", labels[::-1])
    assert not set(repeats.marks().values()) & set(marks.values())
    with pytest.raises(BadInput, match="changed while this ran"):
        repeats.refuse_change(marks)


def test_a_recipe_is_of_all_the_code_that_a_training_runs_through():
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train"]["do"]
    listed = {name for name in stage["deps"] if name.endswith(".py")}
    assert {f"tasks/{name}.py" for name in repeats.CODE} == listed


def test_missing_data_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="data/normalized/.* is missing; run `dvc repro"):
        repeats.marks()
