import shutil

import pytest
import yaml
from samples import ROOT

from tasks.dataset.spec import DatasetSpec
from tasks.download import Download
from tasks.normalize import Normalize
from tasks.rawdata import dataset_card
from tasks.rawdata.dataset_card import ReportedResults
from tasks.runtime.params import BadInput, load
from tasks.validation.schemas import DataLimits

SECTIONS = {
    "images": DatasetSpec,
    "download": Download,
    "validate": DataLimits,
    "normalize": Normalize,
    "report": ReportedResults,
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_params_yaml_selects_the_dataset_card(root):
    (root / "params.yaml").write_text("dataset: mnist")
    assert (
        dataset_card.selected().read_bytes()
        == (root / "datasets/mnist.yaml").read_bytes()
    )


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        ("cats", "is cats, but datasets/cats.yaml is missing; choose one of .*mnist"),
        ("../mnist", "`dataset` is '../mnist', but string should match"),
        ("3", "`dataset` is 3, but"),
        ("", "`dataset` is None, but"),
    ],
)
def test_an_unknown_dataset_is_refused(root, dataset, sentence):
    (root / "params.yaml").write_text(f"dataset: {dataset}")
    with pytest.raises(BadInput, match=sentence):
        dataset_card.selected()


@pytest.mark.parametrize("path", sorted((ROOT / "datasets").glob("*.yaml")))
def test_every_dataset_card_has_every_section(path):
    assert set(yaml.safe_load(path.read_text())) == set(SECTIONS)
    for name, settings in SECTIONS.items():
        load(name, settings, path)
