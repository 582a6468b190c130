"""Check twenty scheduled runs in a row: none may be lost, none may overlap.

`flows.schedule` starts a server and a worker in a separate clone. Then `nightly` runs
every `EVERY` seconds, and one learning rate changes between some runs. Memory and open
files of server and worker are recorded between the runs.
`python benchmarks/soak.py [--runs N]` needs the results of `make run`. It exits with
status 1 if a run is lost, overlaps another or does not end as expected.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import job
import measure
import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

RUNS = 20
EVERY = timedelta(seconds=15)
# The learning rate alternates between two values after this many runs.
CHANGE_AFTER = 4
RATES = ("0.01", "0.02")
POLL_SECONDS = 0.5
# Caches fill during the first runs.
WARM_UP = 5


@contextmanager
def scheduled(root: Path, home: Path) -> Iterator[str]:
    """Schedule the checkout at `root` on a separate server; yield its address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    own = {key: value for key, value in os.environ.items() if "PREFECT" not in key}
    environment = own | {
        "PATH": f"{job.BIN}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_PORT": str(port),
    }
    command = [sys.executable, "-m", "flows.schedule"]
    subprocess.run(command, cwd=root, env=environment, check=True)
    try:
        yield f"http://127.0.0.1:{port}/api"
    finally:
        subprocess.run([*command, "--stop"], cwd=root, env=environment, check=True)


def set_interval(client: SyncPrefectClient) -> Any:
    """Schedule `nightly` every few seconds; return the deployment's ID."""
    deployment = client.read_deployment_by_name("mnist-sgd/nightly")
    client.update_deployment_schedule(
        deployment.id,
        deployment.schedules[0].id,
        active=True,
        schedule=IntervalSchedule(interval=EVERY),
    )
    return deployment.id


def runs_of(client: SyncPrefectClient, deployment: Any) -> list[FlowRun]:
    """Return the deployment's runs that are due or ended, oldest first."""
    chosen = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    found = client.read_flow_runs(
        flow_run_filter=chosen, sort=FlowRunSort.EXPECTED_START_TIME_ASC
    )
    return [run for run in found if run.state_name != "Scheduled"]


def usage(root: Path) -> dict[str, float]:
    """Return memory (MiB) and open files of the server and of the worker."""
    figures = {}
    for name in ("server", "worker"):
        record = json.loads((root / ".schedule" / f"{name}.json").read_text("utf-8"))
        process = psutil.Process(record["pid"])
        # The server has child processes; the worker's children are its runs.
        family = [process, *(process.children() if name == "server" else [])]
        memory = sum(member.memory_info().rss for member in family)
        figures[f"{name}, MiB"] = round(memory / 2**20, 1)
        figures[f"{name}, open files"] = sum(member.num_fds() for member in family)
    return figures


def change(root: Path, rate: str) -> None:
    """Change the learning rate of `scratch_sgd`."""
    path = root / "params.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        re.sub(r"(scratch_sgd: .*learning_rate: )[\d.]+", rf"\g<1>{rate}", text),
        encoding="utf-8",
    )


def watch(
    client: SyncPrefectClient, deployment: Any, root: Path, runs: int
) -> tuple[list[FlowRun], list[dict[str, float]]]:
    """Wait for `runs` runs, changing a parameter between some; return the records."""
    figures: list[dict[str, float]] = []
    while len(figures) < runs:
        time.sleep(POLL_SECONDS)
        # Runs that wait for their turn count too: none may be lost.
        found = runs_of(client, deployment)[:runs]
        done = [run for run in found if run.state and run.state.is_final()]
        while len(figures) < len(done):
            figures.append(usage(root))
            run = done[len(figures) - 1]
            print(f"{len(figures):3} {run.name}: {run.state_name} {figures[-1]}")
            change(root, RATES[len(figures) // CHANGE_AFTER % 2])
    return found, figures


def faults(found: list[FlowRun]) -> list[str]:
    """Return the faults of the runs, in the order in which they were due."""
    wrong = [
        f"{run.name} ended {run.state_name}: {run.state and run.state.message}"
        for run in found
        if run.state_name != "Completed"
    ]
    # A run that had to wait tries again later; others may start before it.
    for one, after in pairwise(sorted(found, key=lambda run: run.start_time)):
        if one.end_time > after.start_time:
            wrong.append(f"a run began at {after.start_time}, before {one.end_time}")
    for one, after in pairwise(found):
        if after.expected_start_time - one.expected_start_time > EVERY * 1.5:
            wrong.append(f"a run after {one.expected_start_time} was lost")
    return wrong


def growth(figures: list[dict[str, float]]) -> dict[str, float]:
    """Return the ratio of the last five medians to the first five after the warm-up."""
    early, late = figures[WARM_UP : WARM_UP + 5], figures[-5:]
    return {
        f"{what}, at the end / at the start": (
            statistics.median(row[what] for row in late)
            / statistics.median(row[what] for row in early)
        )
        for what in figures[0]
    }


def main() -> None:
    """Run the soak test and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        root = job.fresh(Path(folder, "checkout"), measure.ROOT / "data" / "raw")
        with (
            scheduled(root, Path(folder, "home")) as url,
            temporary_settings({PREFECT_API_URL: url}),
            get_client(sync_client=True) as client,
        ):
            deployment = set_interval(client)
            found, figures = watch(client, deployment, root, runs)
    wrong = faults(found)
    print(*wrong, sep="\n")
    seconds = [(run.end_time - run.start_time).total_seconds() for run in found]
    late = [(run.start_time - run.expected_start_time).total_seconds() for run in found]
    measure.write(
        "soak",
        {"a run": seconds, "from due to begun": late},
        growth(figures),
        faults=wrong,
        usage=figures,
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
