import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.signal import correlate

from tasks.modeling import architectures
from tasks.modeling.architectures import layout, scores
from tasks.runtime.params import BadInput

SHAPES = [(8, 8), (9, 14)]


def drawn(architecture, shape, classes=3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        name: (random.normal(size=size) / max(size) ** 0.5).astype(np.float32)
        for name, size in layout(architecture, shape, classes).items()
    }


def images(shape, count=5) -> np.ndarray:
    random = np.random.default_rng(1)
    return random.normal(size=(count, shape[0] * shape[1])).astype(np.float32)


def dense(values: np.ndarray, tensors: dict, number: int) -> np.ndarray:
    weights, bias = tensors[f"weights{number}"], tensors[f"bias{number}"]
    return [sum(values * column) for column in weights.T.astype(float)] + bias


def convolved(image: np.ndarray, tensors: dict, number: int) -> np.ndarray:
    """A convolution, `max(0, ...)`, and the maximum of each 2x2 pixels."""
    weights, bias = tensors[f"weights{number}"], tensors[f"bias{number}"]
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    found = np.stack(
        [
            correlate(padded, w.astype(float), "valid")[0] + b
            for w, b in zip(weights, bias, strict=True)
        ]
    )
    rows, columns = (size // 2 for size in found.shape[1:])
    even = np.maximum(found, 0)[:, : 2 * rows, : 2 * columns]
    return even.reshape(len(even), rows, 2, columns, 2).max(axis=(2, 4))


def test_layout_lists_the_tensors_of_each_architecture():
    assert layout("linear", (28, 28), 10) == {"bias": (10,), "weights": (784, 10)}
    assert layout("mlp", (28, 28), 10) == {
        "bias1": (100,),
        "weights1": (784, 100),
        "bias2": (100,),
        "weights2": (100, 100),
        "bias3": (10,),
        "weights3": (100, 10),
    }
    assert layout("cnn", (28, 28), 10) == {
        "bias1": (16,),
        "weights1": (16, 1, 3, 3),
        "bias2": (32,),
        "weights2": (32, 16, 3, 3),
        "bias3": (64,),
        "weights3": (64, 32, 3, 3),
        "bias4": (10,),
        "weights4": (576, 10),
    }
    assert layout("cnn", (9, 17), 3)["weights4"] == (128, 3)


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_of_one_layer_are_sums(shape):
    tensors, x = drawn("linear", shape), images(shape)
    found = scores("linear", tensors, x, shape)
    numbered = {f"{name}1": values for name, values in tensors.items()}
    expected = [dense(image, numbered, 1) for image in x]
    assert (found.dtype, found.shape) == (np.float32, (5, 3))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_of_the_perceptron_equal_slow_loops(shape):
    tensors, x = drawn("mlp", shape), images(shape)
    before = x.copy()
    found = scores("mlp", tensors, x, shape)
    expected = []
    for image in x:
        one = np.maximum(0, dense(image, tensors, 1))
        expected.append(dense(np.maximum(0, dense(one, tensors, 2)), tensors, 3))
    assert (found.dtype, found.shape) == (np.float32, (5, 3))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_of_the_cnn_equal_slow_loops(shape, monkeypatch):
    monkeypatch.setattr(architectures, "BATCH", 2)
    tensors, x = drawn("cnn", shape), images(shape)
    x.flags.writeable = False  # like those of a mapped file
    found = scores("cnn", tensors, x, shape)
    expected = []
    for image in x:
        values = image.reshape(1, *shape)
        for number in (1, 2, 3):
            values = convolved(values, tensors, number)
        expected.append(dense(values.ravel(), tensors, 4))
    assert (found.dtype, found.shape) == (np.float32, (5, 3))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(7, 28), (28, 7), (1, 1)])
def test_images_too_small_for_the_cnn_are_refused(shape):
    with pytest.raises(BadInput, match="at least 8 by 8 pixels"):
        layout("cnn", shape, 10)


def test_cnn_computes_on_one_thread_and_restores_the_limit(monkeypatch):
    seen = []
    conv2d = torch.nn.functional.conv2d

    def watched(*args, **options):
        seen.append(torch.get_num_threads())
        return conv2d(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        scores("cnn", drawn("cnn", (8, 8)), images((8, 8)), (8, 8))
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert (set(seen), after) == ({1}, 2)


def test_cnn_computes_on_a_few_images_at_a_time(monkeypatch):
    monkeypatch.setattr(architectures, "BATCH", 4)
    sizes = []
    relu = torch.nn.functional.relu
    monkeypatch.setattr(
        torch.nn.functional, "relu", lambda x: (sizes.append(len(x)), relu(x))[1]
    )
    found = scores("cnn", drawn("cnn", (8, 8)), images((8, 8), 9), (8, 8))
    assert (sizes[::3], len(found)) == ([4, 4, 1], 9)


@pytest.mark.slow
def test_only_the_cnn_imports_torch():
    program = (
        "import sys, numpy as np\n"
        "from tasks.modeling.architectures import layout, scores\n"
        "for name in ('linear', 'mlp', 'cnn'):\n"
        "    sizes = layout(name, (8, 8), 3)\n"
        "    zeros = {name: np.zeros(size, 'f4') for name, size in sizes.items()}\n"
        "    scores(name, zeros, np.zeros((2, 64), 'f4'), (8, 8))\n"
        "    print(name, 'torch' in sys.modules)"
    )
    output = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert output == "linear False\nmlp False\ncnn True\n"
