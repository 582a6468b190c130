import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import gradients, networks, training, updates
from tasks.splits import Scale
from tasks.training import Data, Training

SCALE = Scale(divisor=256, mean=0.2, std=0.3)
CPU = torch.device("cpu")


def numbered(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that hold their own number, and the number modulo 3 as their class."""
    numbers = np.arange(count)
    images = np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8)
    return images.reshape(count, 1, 2), numbers % 3


def number(pixels: torch.Tensor) -> torch.Tensor:
    return pixels[:, 0].long() * 256 + pixels[:, 1].long()


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(training, "WINDOW", 64)
    monkeypatch.setattr(training, "BLOCK", 8)


@pytest.mark.parametrize("count", [1, 7, 64, 65, 200, 1000])
def test_windows_hold_every_image_once_with_its_class(small_windows, count):
    data = Data(*numbered(count), SCALE, CPU)
    windows = list(data.windows(torch.Generator().manual_seed(0)))
    assert all(len(window.pixels) <= 64 for window in windows)
    found = torch.cat([number(window.pixels) for window in windows])
    classes = torch.cat([window.classes for window in windows])
    assert sorted(found.tolist()) == list(range(count))
    torch.testing.assert_close(classes, found % 3)


def test_windows_are_in_random_order_only_if_asked(small_windows):
    data = Data(*numbered(200), SCALE, CPU)

    def order(generator) -> list[int]:
        windows = data.windows(generator)
        return torch.cat([number(window.pixels) for window in windows]).tolist()

    assert order(None) == list(range(200))
    shuffled = order(torch.Generator().manual_seed(0))
    assert shuffled != list(range(200))
    assert shuffled == order(torch.Generator().manual_seed(0))
    assert shuffled != order(torch.Generator().manual_seed(1))


def test_inputs_are_the_standardized_pixels():
    images, classes = numbered(1000)
    data = Data(images, classes, SCALE, CPU)
    (window,) = data.windows()
    np.testing.assert_allclose(
        data.inputs(window.pixels).numpy(), SCALE.standardize(images), atol=1e-6
    )


def trained(data: Data, epochs: int = 1) -> Training:
    network = networks.build(
        "linear", "scratch", (1, 2), 3, torch.Generator().manual_seed(0)
    )
    update = updates.build("adam", network.parameters(), 0.01)
    order = torch.Generator().manual_seed(1)
    run = Training(network, gradients.autograd, update, order)
    for _ in range(epochs):
        run.epoch(data, data, 16)
    return run


def test_a_mapped_file_is_trained_on_like_memory(small_windows, tmp_path):
    images, classes = numbered(300)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    one, two = (
        trained(Data(of, classes, SCALE, CPU), epochs=2) for of in (images, mapped)
    )
    torch.testing.assert_close(one.loss, two.loss, rtol=0, atol=0)
    torch.testing.assert_close(one.accuracy, two.accuracy, rtol=0, atol=0)


def test_a_file_that_is_larger_than_a_window_is_not_held_in_memory(tmp_path):
    count, size = 40_000, 28 * 28
    images = np.lib.format.open_memmap(
        tmp_path / "images.npy", "w+", np.uint8, (count, 28, 28)
    )
    images[:] = 1
    del images
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "WINDOW", 2048)
        data = Data(mapped, np.zeros(count, np.int64), SCALE, CPU)
        before = resident()
        highest = max(resident() for _ in data.windows())
    assert highest - before < count * size // 3


def resident() -> int:
    """This process's memory now, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_accuracy_is_the_share_of_right_classes(monkeypatch):
    monkeypatch.setattr(training, "MEASURED_TOGETHER", 7)
    images, classes = numbered(100)
    data = Data(images, classes, SCALE, CPU)
    always_one = torch.nn.Linear(2, 3)
    torch.nn.init.zeros_(always_one.weight)
    always_one.bias.data = torch.tensor([0.0, 1.0, 0.0])
    assert training.accuracy(always_one, data) == np.mean(classes == 1)


cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch finds no CUDA device"
)


@cuda
def test_the_recorded_epochs_of_a_gpu_are_those_of_the_cpu():
    runs = [
        trained(Data(*numbered(1000), SCALE, torch.device(kind)), epochs=4)
        for kind in ("cpu", "cuda")
    ]
    torch.testing.assert_close(runs[0].loss, runs[1].loss, rtol=1e-4, atol=1e-5)


def test_a_recording_replays_what_it_recorded(monkeypatch):
    """The logic of the GPU's path, with a graph that records a function instead."""

    class Graph:
        def replay(self) -> None:
            self.output.copy_(self.run())

    class Capture:
        def __init__(self, graph: Graph) -> None:
            self.graph = graph

        def __enter__(self) -> None:
            recorded.append(self.graph)

        def __exit__(self, *_: object) -> None:
            pass

    recorded: list[Graph] = []
    seen: list[list[int]] = []

    def steps(rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows.tolist())
        output = rows * 2.0
        if recorded and not hasattr(recorded[-1], "run"):
            recorded[-1].run = lambda: rows * 2.0
            recorded[-1].output = output
        return output

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    recording = training._Recording(steps)
    for epoch in range(4):
        rows = torch.tensor([epoch, epoch + 1])
        assert recording(rows).tolist() == [2.0 * epoch, 2.0 * epoch + 2]
    assert len(recorded) == 1
    assert len(seen) == 2, "once as it is, once to be recorded"
