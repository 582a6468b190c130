import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.dataset.splits import Scale
from tasks.training import loop, losses, networks, optimizers
from tasks.training.augmentation import Shifts
from tasks.training.loop import Data, Training

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
    monkeypatch.setattr(loop, "WINDOW", 64)
    monkeypatch.setattr(loop, "BLOCK", 8)


@pytest.mark.parametrize("count", [1, 7, 64, 65, 200, 1000])
def test_windows_hold_every_image_once_with_its_class(small_windows, count):
    data = Data(*numbered(count), SCALE, CPU)
    windows = list(data.windows(torch.Generator().manual_seed(0)))
    assert all(len(window.pixels) <= 64 for window in windows)
    found = torch.cat([number(window.pixels) for window in windows])
    labels = torch.cat([window.labels for window in windows])
    assert sorted(found.tolist()) == list(range(count))
    torch.testing.assert_close(labels, found % 3)


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


def trained(data: Data, epochs: int = 1, **more) -> Training:
    network = networks.build(
        "linear", "scratch", (1, 2), 3, torch.Generator().manual_seed(0)
    )
    network.to(data.device)
    update = optimizers.build("adam", network.parameters(), 0.01)
    order = torch.Generator().manual_seed(1)
    run = Training(network, losses.autograd, update, order, **more)
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
        patch.setattr(loop, "WINDOW", 2048)
        data = Data(mapped, np.zeros(count, np.int64), SCALE, CPU)
        before = resident()
        highest = max(resident() for _ in data.windows())
    assert highest - before < count * size // 3


def resident() -> int:
    """This process's memory now, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_accuracy_is_the_share_of_right_classes(monkeypatch):
    monkeypatch.setattr(loop, "MEASURED_TOGETHER", 7)
    images, classes = numbered(100)
    data = Data(images, classes, SCALE, CPU)
    always_one = torch.nn.Linear(2, 3)
    torch.nn.init.zeros_(always_one.weight)
    always_one.bias.data = torch.tensor([0.0, 1.0, 0.0])
    together = []
    always_one.register_forward_hook(lambda _, given, __: together.append(len(*given)))
    assert loop.accuracy(always_one, data) == np.mean(classes == 1)
    assert together == [7] * 14 + [2]


def halved_every_step(step: int) -> float:
    return 0.5**step


def moves() -> Shifts:
    return Shifts(1, (1, 2), torch.Generator().manual_seed(2))


CHANGES = [
    dict,
    lambda: {"rate": halved_every_step},
    lambda: {"shifts": moves()},
]


def normalizing() -> torch.nn.Module:
    network = torch.nn.Sequential(
        torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 3), torch.nn.LogSoftmax(dim=1)
    )
    torch.nn.init.eye_(network[1].weight)
    torch.nn.init.zeros_(network[1].bias)
    return network


@pytest.mark.parametrize("mode", [True, False])
def test_accuracy_is_of_the_network_as_it_is_used_and_leaves_it_alone(mode):
    data = Data(*numbered(100), SCALE, CPU)
    network = normalizing().train(mode)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    seen = []
    network.register_forward_hook(lambda part, *_: seen.append(part[0].training))
    loop.accuracy(network, data)
    assert seen == [False]
    assert (network.training, network[0].training) == (mode, mode)
    for name, one in network.state_dict().items():
        torch.testing.assert_close(one, before[name], rtol=0, atol=0)


def test_every_batch_of_every_epoch_is_normalized_by_itself():
    data = Data(*numbered(100), SCALE, CPU)
    network = normalizing().eval()
    update = optimizers.build("sgd", network.parameters(), 0.01)
    run = Training(network, losses.autograd, update, torch.Generator())
    for _ in range(2):
        run.epoch(data, data, 16)
    assert network[0].num_batches_tracked.item() == 2 * 7


def test_a_step_is_taken_at_its_own_rate(small_windows):
    """Of whatever window; and an epoch goes on where the one before ended."""
    data = Data(*numbered(200), SCALE, CPU)
    asked = []
    run = trained(data, 2, rate=lambda step: asked.append(step) or 0.5**step)
    assert asked == list(range(2 * data.batches(16)))
    assert run._update.learning_rate == 0.5 ** asked[-1]


@pytest.mark.parametrize(
    ("count", "batches"), [(1, 1), (60, 6), (64, 7), (72, 8), (200, 22)]
)
def test_batches_are_counted_before_they_are_made(small_windows, count, batches):
    data = Data(*numbered(count), SCALE, CPU)
    assert data.batches(10) == batches == len(trained_by_ten(data))


def trained_by_ten(data: Data) -> torch.Tensor:
    network = networks.build("linear", "scratch", (1, 2), 3)
    update = optimizers.build("sgd", network.parameters(), 0.01)
    run = Training(network, losses.autograd, update, torch.Generator())
    return run.descend(data, 10)


def test_shifts_move_what_is_trained_on_and_not_what_is_measured():
    data = Data(*numbered(100), SCALE, CPU)
    plain, moved = trained(data), trained(data, shifts=moves())
    assert plain.loss[0] != moved.loss[0]
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))[:16]
    by = moves().draw(16)
    images = numbered(100)[0]
    expected = [
        moves().moved(torch.from_numpy(images[row].reshape(1, 2)), one[None])
        for row, one in zip(order.tolist(), by, strict=True)
    ]
    first = networks.build(
        "linear", "scratch", (1, 2), 3, torch.Generator().manual_seed(0)
    )
    inputs, classes = data.inputs(torch.cat(expected)), order % 3
    torch.testing.assert_close(moved.loss[0], losses.autograd(first, inputs, classes))
    assert moved.accuracy[0, 0] == pytest.approx(loop.accuracy(moved.network, data))


@pytest.mark.parametrize("changes", CHANGES)
def test_what_changes_from_step_to_step_is_not_recorded(changes):
    run = trained(Data(*numbered(10), SCALE, CPU), **changes())
    assert run._is_recorded(torch.device("cuda")) == (not changes())
    assert not run._is_recorded(CPU)


cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch finds no CUDA device"
)


@cuda
@pytest.mark.parametrize("changes", CHANGES)
def test_the_epochs_of_a_gpu_are_those_of_the_cpu(changes):
    runs = [
        trained(Data(*numbered(1000), SCALE, torch.device(kind)), 4, **changes())
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
    recording = loop._Recording(steps)
    for epoch in range(4):
        rows = torch.tensor([epoch, epoch + 1])
        assert recording(rows).tolist() == [2.0 * epoch, 2.0 * epoch + 2]
    assert len(recorded) == 1
    assert len(seen) == 2, "once as it is, once to be recorded"
