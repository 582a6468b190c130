"""Time programs side by side: in turn, in one run, so drift affects all equally."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("dvc", "numpy", "prefect", "scikit-learn", "torch")


def in_turn(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of each contender in `rounds` rounds, after `warm_up` rounds.

    Measured by `time.process_time`, the processor seconds of this process. For a single
    thread they equal the wall-clock seconds on an idle machine.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + warm_up):
        for name, contender in contenders.items():
            started = clock()
            contender()
            seconds[name].append(clock() - started)
    return {name: values[warm_up:] for name, values in seconds.items()}


def ratio(seconds: Mapping[str, list[float]], one: str, other: str) -> float:
    """Return the median over the rounds of `one`'s time divided by `other`'s."""
    pairs = zip(seconds[one], seconds[other], strict=True)
    return statistics.median(first / second for first, second in pairs)


def machine() -> dict[str, Any]:
    """Return the processor, the number of cores and the versions of the libraries."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
    }


def write(
    name: str,
    seconds: Mapping[str, list[float]],
    ratios: Mapping[str, float],
    **more: Any,
) -> None:
    """Print medians and ratios, and write them to `results/<name>.json`."""
    for contender, values in seconds.items():
        print(
            f"{contender:28} {statistics.median(values):8.3f} s  "
            f"({min(values):.3f} to {max(values):.3f})"
        )
    for what, value in ratios.items():
        print(f"{what:60} {value:.2f}")
    result = {
        "machine": machine(),
        "rounds": max(map(len, seconds.values())),
        "median_seconds": {
            k: round(statistics.median(v), 4) for k, v in seconds.items()
        },
        "ratios": {what: round(value, 3) for what, value in ratios.items()},
        **more,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
