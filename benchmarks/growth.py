"""Measure training time per image and memory on 1, 10 and 100 times MNIST.

The images are MNIST's, shifted by up to two pixels, with noise. Each training runs for
one epoch on one thread, in its own process.
`python benchmarks/growth.py [TIMES ...]`.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import numpy as np

sys.path.insert(0, str(measure.ROOT))

from tasks.dataset import splits
from tasks.dataset.splits import Split

VARIANT = "scratch_sgd"
ROUNDS = 3


def grown(train: Split, times: int, path: Path) -> Split:
    """Write `times` shifted, noisy copies of the images; return a memory map."""
    random = np.random.default_rng(times)
    count = len(train.labels)
    images = np.lib.format.open_memmap(
        path, "w+", np.uint8, (count * times, *train.images.shape[1:])
    )
    for copy in range(times):
        shift = tuple(random.integers(-2, 3, 2))
        shifted = np.roll(train.images, shift, axis=(1, 2))
        noise = random.integers(0, 32, shifted.shape, dtype=np.uint8)
        images[copy * count : (copy + 1) * count] = np.maximum(shifted, noise)
    images.flush()
    return Split(np.load(path, mmap_mode="r"), np.tile(train.labels, times))


def measure_one(path: str, times: int) -> None:
    """Train on the file at `path` and print seconds and peak memory as JSON."""
    # The parent process does not need torch.
    from tasks.runtime import cli  # noqa: PLC0415
    from tasks.runtime.params import load  # noqa: PLC0415
    from tasks.train import train  # noqa: PLC0415
    from tasks.training.settings import Train  # noqa: PLC0415

    cli.limit_threads()
    folder = measure.ROOT / "data" / "normalized"
    settings = load("train", Train, measure.ROOT / "params.yaml")
    labels = np.tile(splits.load(folder, "train").labels, times)
    split = Split(np.load(path, mmap_mode="r"), labels)
    started = time.perf_counter()
    train(
        split,
        splits.load(folder, "valid"),
        splits.load_facts(folder),
        settings.model_copy(update={"epochs": 1}),
        VARIANT,
    )
    seconds = time.perf_counter() - started
    # Not ru_maxrss: a process inherits it from its parent.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps({"seconds": seconds, "images": len(labels), "peak": peak}))


def main() -> None:
    """Make the files, train on each in turn, and write the results."""
    wanted = [int(times) for times in sys.argv[1:]] or [1, 10, 100]
    train = splits.load(measure.ROOT / "data" / "normalized", "train")
    runs: dict[int, list[dict[str, float]]] = {times: [] for times in wanted}
    with tempfile.TemporaryDirectory(dir=measure.ROOT / "data") as folder:
        for times in wanted:
            grown(train, times, Path(folder, f"{times}.npy"))
        for _ in range(ROUNDS):
            for times in wanted:
                command = [sys.executable, __file__, "--one", f"{folder}/{times}.npy"]
                output = subprocess.run(
                    [*command, str(times)], check=True, capture_output=True, text=True
                ).stdout
                runs[times].append(json.loads(output))
    per_image = {
        f"{times}x, per million images": [
            1e6 * run["seconds"] / run["images"] for run in runs[times]
        ]
        for times in wanted
    }
    names = list(per_image)
    ratios = {
        f"{times}x the images, time of each": measure.ratio(per_image, name, names[0])
        for times, name in zip(wanted[1:], names[1:], strict=True)
    }
    peaks = {f"{n}x": round(max(r["peak"] for r in runs[n]) / 2**20) for n in wanted}
    print("peak MiB:", peaks)
    measure.write("growth", per_image, ratios, peak_mib=peaks, variant=VARIANT)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure_one(sys.argv[2], int(sys.argv[3]))
    else:
        main()
