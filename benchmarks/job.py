"""Time the whole job: the flow, `dvc repro`, and the lesson as a bare script.

Cold: in fresh clones without a cache; the raw files come from a folder, so the network
is not measured; the flow reports to a running Prefect server. No-op: the same again.
Then the flow runs beside a process that keeps one core busy.
`python benchmarks/job.py`.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import measure
from ruamel.yaml import YAML

COLD_ROUNDS = 3
NO_OP_ROUNDS = 5
BIN = Path(sys.executable).parent
BURN = "while True: pass"

Command = list[str | Path]


@contextmanager
def prefect_server(home: Path) -> Iterator[dict[str, str]]:
    """Run a Prefect server; yield the environment of its clients."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    environment = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_PORT": str(port),
    }
    server = subprocess.Popen(
        [BIN / "prefect", "server", "start"],
        cwd=measure.ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        while not _answers(f"{url}/health"):
            time.sleep(0.2)
        time.sleep(5)  # until its services have started
        yield environment | {"PREFECT_API_URL": url}
    finally:
        server.terminate()
        server.wait()


def fresh(folder: Path, raw: Path) -> Path:
    """Clone the project into `folder`, with a folder as the source of its raw data."""
    if folder.exists():
        shutil.rmtree(folder)
    subprocess.run(["git", "clone", "-q", measure.ROOT, folder], check=True)
    path = folder / "datasets" / "mnist.yaml"
    card = YAML().load(path)
    card["download"]["sources"] = [str(raw)]
    YAML().dump(card, path)
    return folder


def timed(command: Command, cwd: Path, env: dict[str, str]) -> float:
    """Return the seconds that a command takes."""
    started = time.perf_counter()
    subprocess.run(command, cwd=cwd, env=env, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure and write the results."""
    raw = measure.ROOT / "data" / "raw"
    flow: Command = [BIN / "python", "-m", "flows.pipeline"]
    repro: Command = [BIN / "dvc", "repro"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        script: Command = [
            BIN / "python",
            measure.ROOT / "benchmarks" / "script.py",
            raw,
            folder / "figure.png",
        ]
        seconds: dict[str, list[float]] = {}

        def record(what: str, command: Command, cwd: Path) -> None:
            seconds.setdefault(what, []).append(timed(command, cwd, env))

        with prefect_server(folder / "prefect") as env:
            timed(script, folder, env)  # warm-up: fills the system's file cache
            for _ in range(COLD_ROUNDS):
                record("flow, cold", flow, fresh(folder / "flow", raw))
                record("dvc repro, cold", repro, fresh(folder / "dvc", raw))
                record("script", script, folder)
                clone = fresh(folder / "beside", raw)
                with subprocess.Popen([sys.executable, "-c", BURN]) as burner:
                    record("flow, cold, beside a busy process", flow, clone)
                    burner.kill()
            for _ in range(NO_OP_ROUNDS):
                record("flow, no-op", flow, folder / "flow")
                record("dvc repro, no-op", repro, folder / "dvc")
    ratios = {
        f"{one} / {other}": measure.ratio(seconds, one, other)
        for one, other in [
            ("flow, cold", "script"),
            ("dvc repro, cold", "script"),
            ("flow, cold", "dvc repro, cold"),
            ("flow, cold, beside a busy process", "flow, cold"),
            ("flow, no-op", "dvc repro, no-op"),
        ]
    }
    measure.write("job", seconds, ratios)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
