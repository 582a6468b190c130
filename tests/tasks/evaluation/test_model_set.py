import numpy as np
import pytest
import yaml
from conftest import facts

from tasks.evaluation import model_set
from tasks.modeling import model_file
from tasks.modeling.model_file import Description, Model
from tasks.runtime.params import BadInput


def model(columns=4, classes=3):
    return Model(
        tensors={
            "weights": np.ones((columns, classes), np.float32),
            "bias": np.zeros(classes, np.float32),
        },
        description=Description(
            **dict(facts((1, columns), classes)), link="softmax", parameters={}
        ),
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = {"train": {"variants": {"one": {}, "two": {}}, "seed": 0}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for name in ("baseline", "one", "two"):
        model_file.save(model(), tmp_path / "models" / f"{name}.safetensors")
    return tmp_path


def test_baseline_comes_before_the_networks(project):
    assert list(model_set.read()) == ["baseline", "one", "two"]


@pytest.mark.parametrize("other", [model(columns=5), model(classes=4)])
def test_models_of_different_images_or_classes_are_refused(project, other):
    model_file.save(other, project / "models" / "two.safetensors")

    with pytest.raises(BadInput, match="different images or classes"):
        model_set.read()


@pytest.mark.parametrize("name", ["baseline", "index", "label"])
def test_reserved_network_names_are_refused(project, name):
    params = {"train": {"variants": {name: {}}}}
    (project / "params.yaml").write_text(yaml.safe_dump(params))

    with pytest.raises(BadInput, match=f"`train.variants.{name}` has a reserved name"):
        model_set.networks()


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "a b", "a;b", "$(a)", "", "-a", "a" * 41],
)
def test_network_names_are_single_words(project, name):
    params = {"train": {"variants": {name: {}}}}
    (project / "params.yaml").write_text(yaml.safe_dump(params))

    with pytest.raises(BadInput, match="`train.variants.*but string should match"):
        model_set.networks()
