"""Measure time and memory of predictions: the step beside a bare matrix product.

The product is `images.reshape(n, -1).astype(np.float32) @ weights` in chunks that fit
the cache, on the same memory map. The step also finds blank images, computes the
softmax, and writes the table as Parquet, the review page and the summary. Both run on
one thread and are measured in processor seconds, which other programs hardly affect.
The file has a million images: MNIST's, repeated.
`python benchmarks/predict.py [IMAGES ...]`.
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

from tasks import predict
from tasks.dataset import splits
from tasks.inference import image_stream
from tasks.runtime import cli

ROUNDS = 7
LIMIT = 1.5
CHUNK = 1000  # the fastest of 500 to 64,000


def made(count: int, path: Path) -> Path:
    """Write `count` images to the file at `path`."""
    folder = measure.ROOT / "data" / "normalized"
    some = np.asarray(splits.load(folder, "train").images)
    whole = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *some.shape[1:]))
    for start in range(0, count, len(some)):
        whole[start : start + len(some)] = some[: count - start]
    whole.flush()
    return path


def step(path: Path, model: str) -> None:
    """Predict the file at `path` with a linear model."""
    chosen = predict.choose(model, measure.ROOT)
    wanted = image_stream.input_files([str(path)], Path())
    predict.write(wanted, chosen, path.with_suffix(".out"), "parquet", 500)


def product(path: Path, weights: np.ndarray) -> None:
    """Multiply the file at `path` with the weights."""
    mapped = np.load(path, mmap_mode="r")
    for start in range(0, len(mapped), CHUNK):
        some = mapped[start : start + CHUNK]
        some.reshape(len(some), -1).astype(np.float32) @ weights


def peak(path: Path, model: str) -> int:
    """Return the peak memory, in MiB, of a process that predicts `path`."""
    words = [sys.executable, __file__, "--one", str(path), model]
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return int(json.loads(output))


def main() -> None:
    """Measure, and write the results."""
    cli.limit_threads()
    wanted = [int(count) for count in sys.argv[1:]] or [100_000, 1_000_000]
    model = "scratch_adam"
    chosen = predict.choose(f"models/{model}.safetensors", measure.ROOT)
    weights = np.ascontiguousarray(chosen.model.tensors["weights"])
    with tempfile.TemporaryDirectory(dir=measure.ROOT / "data") as folder:
        paths = {count: made(count, Path(folder, f"{count}.npy")) for count in wanted}
        largest = paths[max(wanted)]
        model_path = str(measure.ROOT / "models" / f"{model}.safetensors")
        contenders = {
            "predict": lambda: step(largest, model_path),
            "product": lambda: product(largest, weights),
        }
        seconds = measure.in_turn(contenders, ROUNDS, clock=time.process_time)
        peaks = {f"{count:,}": peak(path, model_path) for count, path in paths.items()}
    print("peak MiB:", peaks)
    what = "predict, with its table / bare product"
    ratios = {what: measure.ratio(seconds, "predict", "product")}
    images_of = {"images": max(wanted), "peak_mib": peaks, "model": model}
    measure.write("predict", seconds, ratios, **images_of)
    if ratios[what] > LIMIT:
        sys.exit(f"It takes more than {LIMIT} times the bare product.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        cli.limit_threads()
        step(Path(sys.argv[2]), sys.argv[3])
        # Not ru_maxrss: a process inherits it from its parent.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
    else:
        main()
