import json
from pathlib import Path

import numpy as np
import pytest
from box import in_a_box
from safetensors.numpy import save_file
from samples import facts
from scipy.special import log_softmax, softmax

from tasks.dataset.splits import Split
from tasks.modeling import architectures, model_file
from tasks.modeling.calibration import Calibration
from tasks.modeling.model_file import Description, Model
from tasks.runtime.params import BadInput

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (5, 2, 2), dtype=np.uint8)
VALID = Split(IMAGES, np.uint8([0, 1, 2, 0, 1]))


def model(link: str = "softmax", temperature: float | None = None) -> Model:
    random = np.random.default_rng(1)
    measured = temperature and Calibration(
        temperature=temperature, images=5, curve=((0.5, 3, 1),)
    )
    return Model(
        tensors={
            "weights": random.normal(size=(4, 3)).astype(np.float32),
            "bias": random.normal(size=3).astype(np.float32),
        },
        description=Description(
            **dict(facts((2, 2), 3)),
            link=link,
            parameters={"solver": "none", "C": 0.5, "steps": 3, "on": True},
            calibration=measured,
        ),
    )


def scores(of: Model) -> np.ndarray:
    inputs = (IMAGES.reshape(5, 4) / 256 - 0.5) / 0.25
    return inputs @ of.tensors["weights"] + of.tensors["bias"]


def test_saved_model_is_loaded(tmp_path):
    model_file.save(model(), tmp_path / "model.safetensors")
    loaded = model_file.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.tensors["weights"], model().tensors["weights"])
    np.testing.assert_array_equal(loaded.tensors["bias"], model().tensors["bias"])
    assert loaded.description == model().description


def test_softmax_probabilities_equal_scipys():
    np.testing.assert_allclose(
        model().log_probabilities(IMAGES),
        log_softmax(scores(model()), axis=1),
        rtol=1e-5,
    )


def test_one_vs_rest_probabilities_are_normalized_logistic_functions():
    ensemble = model("one-vs-rest")
    logistic = 1 / (1 + np.exp(-scores(ensemble)))
    np.testing.assert_allclose(
        np.exp(ensemble.log_probabilities(IMAGES)),
        logistic / logistic.sum(axis=1, keepdims=True),
        rtol=1e-5,
    )


def test_prediction_is_the_most_probable_class():
    expected = softmax(scores(model()), axis=1).argmax(axis=1)
    np.testing.assert_array_equal(model().predict(IMAGES), expected)


def test_temperature_divides_the_scores():
    np.testing.assert_allclose(
        model(temperature=2.0).log_probabilities(IMAGES),
        log_softmax(scores(model()) / 2, axis=1),
        rtol=1e-5,
    )


def test_temperature_of_one_vs_rest_divides_log_probabilities():
    shares = model("one-vs-rest").log_probabilities(IMAGES)
    np.testing.assert_allclose(
        model("one-vs-rest", temperature=2.0).log_probabilities(IMAGES),
        log_softmax(shares / 2, axis=1),
        rtol=1e-5,
    )


def test_calibrating_again_changes_nothing():
    once = model_file.calibrated(model(), VALID)
    assert once.description.calibration.images == 5
    assert model_file.calibrated(once, VALID).description == once.description


def test_model_of_an_earlier_version_is_outdated(tmp_path):
    """Before the metadata included the shape of the images."""
    old = {
        "architecture": "linear",
        "classes": [0, 1, 2],
        "link": "softmax",
        "parameters": {"seed": 0},
        "scale": {"divisor": 256, "mean": 0.5, "std": 0.25},
    }
    path = damaged(tmp_path, metadata={"model": json.dumps(old)})
    with pytest.raises(model_file.Outdated, match="written by an earlier version"):
        model_file.load(path)


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_models_with_several_layers_are_saved_and_loaded(tmp_path, architecture):
    random = np.random.default_rng(2)
    layout = architectures.layout(architecture, (9, 8), 3)
    deep = Model(
        tensors={
            name: random.normal(size=shape).astype(np.float32)
            for name, shape in layout.items()
        },
        description=Description(
            **dict(facts((9, 8), 3)),
            architecture=architecture,
            link="softmax",
            parameters={},
        ),
    )
    model_file.save(deep, tmp_path / "model")
    images = random.integers(0, 256, (5, 9, 8), dtype=np.uint8)
    loaded = model_file.load(tmp_path / "model")
    np.testing.assert_array_equal(
        loaded.log_probabilities(images), deep.log_probabilities(images)
    )
    assert "weights" not in loaded.tensors


def test_log_softmax_does_not_overflow():
    huge = np.array([[1000.0, 0.0], [-1000.0, -1000.0]])
    np.testing.assert_allclose(
        model_file.log_softmax(huge), [[0, -1000], [-np.log(2), -np.log(2)]]
    )


def test_model_is_replaced_as_a_whole(tmp_path):
    path, link = tmp_path / "model.safetensors", tmp_path / "link.safetensors"
    model_file.save(model(), path)
    link.hardlink_to(path)
    before = link.read_bytes()
    model_file.save(model_file.calibrated(model(), VALID), path)
    assert link.read_bytes() == before != path.read_bytes()


def test_same_model_gives_the_same_bytes(tmp_path):
    """safetensors orders several metadata keys at random, even in one process."""
    one = model()
    reversed_tensors = dict(reversed(one.tensors.items()))
    contents = set()
    for each in [one] * 8 + [one.model_copy(update={"tensors": reversed_tensors})]:
        model_file.save(each, tmp_path / "model")
        contents.add((tmp_path / "model").read_bytes())
    assert len(contents) == 1


def damaged(folder: Path, metadata: dict | None = None, **tensors: np.ndarray) -> Path:
    path = folder / "model.safetensors"
    good = model().tensors
    text = model().description.model_dump_json()
    save_file(
        {**good, **tensors}, path, {"model": text} if metadata is None else metadata
    )
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"metadata": {}}, "is not a model of this project"),
        ({"metadata": {"model": "{}"}}, "was written by an earlier version"),
        ({"metadata": {"model": "["}}, "is not a model of this project"),
        ({"bias": np.zeros(2, np.float32)}, "has the tensors"),
        ({"bias": np.zeros(3, np.float64)}, "has the tensors"),
        (
            {"weights": np.zeros((4, 2), np.float32)},
            "has the tensors",
        ),
        ({"weights": np.zeros(4, np.float32)}, "has the tensors"),
        ({"extra": np.zeros(1, np.float32)}, "has the tensors"),
        (
            {"weights": np.zeros((0, 3), np.float32)},
            "has the tensors",
        ),
        (
            {"weights": np.zeros((4, 3), np.float16)},
            "has the tensors",
        ),
        (
            {"weights": np.zeros((4, 3, 1), np.float32)},
            "has the tensors",
        ),
        ({"bias": np.float32([0, np.nan, 0])}, "not finite"),
        ({"weights": np.full((4, 3), np.inf, np.float32)}, "not finite"),
        ({"weights": np.full((4, 3), -3e38, np.float32)}, "not finite"),
    ],
)
def test_incomplete_model_is_refused(tmp_path, change, reason):
    path = damaged(tmp_path, **change)
    with pytest.raises(BadInput, match=reason):
        model_file.load(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(
            ('"std":0.25', f'"std":{std}')
            for std in ("NaN", "0", "-1", "1e-300", '"1"')
        ),
        *(('"mean":0.5', f'"mean":{mean}') for mean in ("Infinity", "-1", "true")),
        *(('"divisor":256', f'"divisor":{divisor}') for divisor in (0, 257, 1e9)),
        *(('["0","1","2"]', names) for names in ('["0","1","1"]', "[0,1,2]", "[]")),
        *(('["0","1","2"]', names) for names in ("{}", '["0","1",""]', '["<b>"]')),
        *(("[2,2]", shape) for shape in ("[2]", "[2,0]", "[2,2,1]", "[1e9,1]")),
        ('"brightest":255', '"brightest":256'),
        ('"calibration":null', '"calibration":{"temperature":1}'),
        ('"softmax"', '"argmax"'),
        ('"linear"', '"other"'),
        ('"parameters":{', '"more":0,"parameters":{'),
        ('"parameters":{', '"parameters":{"endless":1e400,'),
        ('"parameters":{', '"parameters":{"page":"<script>",'),
        ('"parameters":{', '"parameters":{"| cell |":1,'),
        ('"parameters":{', '"parameters":{"deep":' + "[" * 999 + "]" * 999 + ","),
    ],
)
def test_invalid_description_is_refused(tmp_path, old, new):
    text = model().description.model_dump_json()
    assert text.count(old) == 1
    path = damaged(tmp_path, metadata={"model": text.replace(old, new)})

    with pytest.raises(BadInput, match="is not a model of this project"):
        model_file.load(path)


def tensor(*, shape=(3,), dtype="F32", start=0, end=12):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def packed(data: int = 60, **changes: dict) -> bytes:
    """A safetensors file of `data` bytes, written from the format's specification."""
    header = {
        "__metadata__": {"model": model().description.model_dump_json()},
        "bias": tensor(),
        "weights": tensor(shape=(4, 3), start=12, end=60),
    }
    text = json.dumps(header | changes).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def test_file_written_from_the_format_specification_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed())

    assert model_file.load(path).tensors["weights"].tolist() == [[0, 0, 0]] * 4


CORRUPTIONS = {
    "a header of 2^63 bytes": (2**63).to_bytes(8, "little") + b"{}",
    "a header of 10^8 bytes": (10**8).to_bytes(8, "little") + b"{}",
    "a header past the end": (2**20).to_bytes(8, "little") + b"{}",
    "no JSON": (8).to_bytes(8, "little") + b"notjson!",
    "JSON without an end": (9999).to_bytes(8, "little") + b'{"a":' * 1999 + b"    ",
    "a list": (2).to_bytes(8, "little") + b"[]",
    "overlapping tensors": packed(
        data=52, weights=tensor(shape=(4, 3), start=4, end=52)
    ),
    "a gap": packed(data=64, weights=tensor(shape=(4, 3), start=16, end=64)),
    "bytes left over": packed(data=61),
    "bytes missing": packed(data=59),
    "reversed offsets": packed(weights=tensor(shape=(4, 3), start=60, end=12)),
    "a negative offset": packed(bias=tensor(start=-12, end=0)),
    "an offset of 2^64": packed(bias=tensor(end=2**64)),
    "a shape of 2^64": packed(weights=tensor(shape=(2**62, 4, 3), start=12, end=60)),
    "a shape of another size": packed(weights=tensor(shape=(4, 4), start=12, end=60)),
    "an unknown type": packed(bias=tensor(dtype="O")),
    "a type of two bytes": packed(
        data=54,
        bias=tensor(dtype="BF16", end=6),
        weights=tensor(shape=(4, 3), start=6, end=54),
    ),
    "a type of one byte": packed(
        data=51,
        bias=tensor(dtype="F8_E5M2", end=3),
        weights=tensor(shape=(4, 3), start=3, end=51),
    ),
    "integers": packed(bias=tensor(dtype="I32")),
    "a number as metadata": packed(__metadata__={"model": 1}),
    "no metadata": packed(__metadata__={}),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_corrupted_file_is_refused(tmp_path, corruption):
    path = tmp_path / "model.safetensors"
    path.write_bytes(CORRUPTIONS[corruption])

    with pytest.raises(
        BadInput, match=f"^{path} (is not a|has the tensors ).*; train it again"
    ):
        model_file.load(path)


def test_oversized_file_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    text = model().description.model_dump_json()
    path.write_bytes(packed(data=60, __metadata__={"model": text, "x": "x" * 10**7}))

    with pytest.raises(BadInput, match="has more than 10,000,000 bytes"):
        model_file.load(path)


@pytest.mark.slow
def test_largest_header_takes_little_time_and_memory(tmp_path):
    path = tmp_path / "model.safetensors"
    many = {f"{n}": tensor(shape=(0,), end=0) for n in range(140_000)}
    path.write_bytes(packed(**many))
    assert 9_000_000 < path.stat().st_size < model_file.MAX_BYTES

    sentence = in_a_box(
        "model_file.load(path)", path, imports="from tasks.modeling import model_file"
    )
    assert (
        "has the tensors {'0': ('F32', (0,)), '1': ('F32', (0,)), '10': (" in sentence
    )
    assert len(sentence) < 2100


def test_largest_weights_give_finite_probabilities(tmp_path):
    large = np.full((4, 3), model_file.MAX_WEIGHT, np.float32)
    with_largest = damaged(tmp_path, weights=large, bias=-large[0])

    logs = model_file.load(with_largest).log_probabilities(IMAGES)
    assert np.isfinite(logs).all()


def test_images_of_another_shape_are_refused():
    with pytest.raises(
        BadInput, match=r"takes images of \(2, 2\) pixels, not of \(2, 3\)"
    ):
        model().log_probabilities(np.zeros((5, 2, 3), np.uint8))


@pytest.mark.parametrize("size", [0, 7, 100])
def test_truncated_file_is_refused(tmp_path, size):
    path = damaged(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(BadInput, match="is not a model of this project"):
        model_file.load(path)


def test_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match="is not a model of this project"):
        model_file.load(tmp_path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        model_file.load(tmp_path / "none.safetensors")
    assert Path(caught.value.filename) == tmp_path / "none.safetensors"
