import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.dataset.splits import Scale
from tasks.training import loop, losses, networks
from tasks.training.augmentation import RandomShifts
from tasks.training.loop import Data, Training
from tasks.training.optimizers import Optimizer

SCALE = Scale(divisor=256, mean=0.2, std=0.3)
CPU = torch.device("cpu")


def numbered(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images whose pixels are their number, and the number modulo 3 as the label."""
    numbers = np.arange(count)
    images = np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8)
    return images.reshape(count, 1, 2), numbers % 3


def number(pixels: torch.Tensor) -> torch.Tensor:
    return pixels[:, 0].long() * 256 + pixels[:, 1].long()


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(loop, "WINDOW", 64)
    monkeypatch.setattr(loop, "BLOCK", 8)


@pytest.mark.parametrize("count", [1, 64, 65, 200])
def test_windows_have_every_image_once_with_its_label(small_windows, count):
    data = Data(*numbered(count), SCALE, CPU)
    windows = list(data.windows(torch.Generator().manual_seed(0)))
    assert all(len(window.pixels) <= 64 for window in windows)
    found = torch.cat([number(window.pixels) for window in windows])
    labels = torch.cat([window.labels for window in windows])
    assert sorted(found.tolist()) == list(range(count))
    torch.testing.assert_close(labels, found % 3)


def test_order_of_windows_is_random_only_with_a_generator(small_windows):
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
    images, labels = numbered(1000)
    data = Data(images, labels, SCALE, CPU)
    (window,) = data.windows()
    np.testing.assert_allclose(
        data.inputs(window.pixels).numpy(), SCALE.standardize(images), atol=1e-6
    )


def scratch_network() -> networks.Scratch:
    random = torch.Generator().manual_seed(0)
    return networks.build("linear", "scratch", (1, 2), 3, random)


def training_of(network, rule="adam", **options) -> Training:
    optimizer = Optimizer(rule, list(network.parameters()), 0.01)
    order = torch.Generator().manual_seed(1)
    return Training(network, losses.autograd, optimizer, order, **options)


def trained(data: Data, epochs: int = 1, **options) -> Training:
    training = training_of(scratch_network().to(data.device), **options)
    for _ in range(epochs):
        training.epoch(data, data, 16)
    return training


def test_mapped_file_trains_like_an_array_in_memory(small_windows, tmp_path):
    images, labels = numbered(300)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    one, two = (
        trained(Data(each, labels, SCALE, CPU), epochs=2) for each in (images, mapped)
    )
    torch.testing.assert_close(one.loss, two.loss, rtol=0, atol=0)
    torch.testing.assert_close(one.accuracy, two.accuracy, rtol=0, atol=0)


def test_file_larger_than_a_window_is_not_loaded_as_a_whole(tmp_path, monkeypatch):
    count, size = 40_000, 28 * 28
    images = np.lib.format.open_memmap(
        tmp_path / "images.npy", "w+", np.uint8, (count, 28, 28)
    )
    images[:] = 1
    del images
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    monkeypatch.setattr(loop, "WINDOW", 2048)
    data = Data(mapped, np.zeros(count, np.int64), SCALE, CPU)
    before = resident()
    highest = max(resident() for _ in data.windows())
    assert highest - before < count * size // 3


def resident() -> int:
    """Return the memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_accuracy_is_the_share_of_correct_images(monkeypatch):
    monkeypatch.setattr(loop, "ACCURACY_BATCH", 7)
    images, labels = numbered(100)
    data = Data(images, labels, SCALE, CPU)
    always_one = torch.nn.Linear(2, 3)
    torch.nn.init.zeros_(always_one.weight)
    always_one.bias.data = torch.tensor([0.0, 1.0, 0.0])
    sizes = []
    always_one.register_forward_hook(lambda _, inputs, __: sizes.append(len(*inputs)))
    assert loop.accuracy(always_one, data) == np.mean(labels == 1)
    assert sizes == [7] * 14 + [2]


def random_shifts() -> RandomShifts:
    return RandomShifts(1, (1, 2), torch.Generator().manual_seed(2))


def normalizing() -> torch.nn.Module:
    network = torch.nn.Sequential(
        torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 3), torch.nn.LogSoftmax(dim=1)
    )
    torch.nn.init.eye_(network[1].weight)
    torch.nn.init.zeros_(network[1].bias)
    return network


@pytest.mark.parametrize("mode", [True, False])
def test_accuracy_uses_evaluation_mode_and_does_not_change_the_network(mode):
    data = Data(*numbered(100), SCALE, CPU)
    network = normalizing().train(mode)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    modes = []
    network.register_forward_hook(lambda part, *_: modes.append(part[0].training))
    loop.accuracy(network, data)
    assert modes == [False]
    assert (network.training, network[0].training) == (mode, mode)
    for name, one in network.state_dict().items():
        torch.testing.assert_close(one, before[name], rtol=0, atol=0)


def test_batch_normalization_sees_every_batch_of_every_epoch():
    data = Data(*numbered(100), SCALE, CPU)
    training = training_of(normalizing().eval())
    for _ in range(2):
        training.epoch(data, data, 16)
    assert training.network[0].num_batches_tracked.item() == 2 * 7


def test_schedule_counts_steps_across_windows_and_epochs(small_windows):
    data = Data(*numbered(200), SCALE, CPU)
    steps = []
    trained(data, 2, schedule=lambda step: steps.append(step) or 0.01)
    assert steps == list(range(2 * data.batches(16)))


def test_every_step_has_the_learning_rate_of_the_schedule():
    data = Data(*numbered(100), SCALE, CPU)
    still = trained(data, schedule=lambda _: 0.0).network
    torch.testing.assert_close(still.weights, scratch_network().weights)
    constant = trained(data, schedule=lambda _: 0.01)
    torch.testing.assert_close(constant.loss, trained(data).loss, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("count", "batches"), [(1, 1), (60, 6), (64, 7), (72, 8), (200, 22)]
)
def test_number_of_batches_is_known_before_an_epoch(small_windows, count, batches):
    data = Data(*numbered(count), SCALE, CPU)
    steps = training_of(scratch_network()).descend(data, 10)
    assert data.batches(10) == batches == len(steps)


def test_shifts_change_the_training_images_but_not_the_accuracy():
    data = Data(*numbered(100), SCALE, CPU)
    plain, shifted = trained(data), trained(data, shifts=random_shifts())
    assert plain.loss[0] != shifted.loss[0]
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))[:16]
    pixels = torch.from_numpy(numbered(100)[0].reshape(-1, 2))[order]
    inputs = data.inputs(random_shifts()(pixels))
    expected = losses.autograd(scratch_network(), inputs, order % 3)
    torch.testing.assert_close(shifted.loss[0], expected)
    assert shifted.accuracy[0, 0] == pytest.approx(loop.accuracy(shifted.network, data))


cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch finds no CUDA device"
)


@cuda
@pytest.mark.parametrize(
    "options",
    [
        dict,
        lambda: {"schedule": lambda step: 0.5**step},
        lambda: {"shifts": random_shifts()},
    ],
    ids=["constant", "schedule", "shifts"],
)
def test_epochs_on_a_gpu_equal_those_on_the_cpu(options):
    one, two = (
        trained(Data(*numbered(1000), SCALE, torch.device(name)), 4, **options())
        for name in ("cpu", "cuda")
    )
    torch.testing.assert_close(one.loss, two.loss, rtol=1e-4, atol=1e-5)
