"""Every way to run the pipeline on one machine gives the same bytes.

The ways differ in engine, folder, cores, threads, hash seed and interruptions.
`make test-all` tries some of them, `make test-faults` all.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from checkouts import end, git, locked
from servers import wait_until

FLOW = ("python", "-m", "flows.pipeline")
REPRO = ("dvc", "repro")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Way(NamedTuple):
    """A way to run the pipeline.

    Attributes:
        commands: commands to run in this order.
        folder: folder of the checkout.
        cores: number of cores that the programs may use.
        threads: number of threads that the environment asks for.
        seed: of Python's hashes, which decides the order of sets.
        stop: stage after which the first command gets a signal, and the signal.
        forked: whether the flow may fork its stages; `dvc repro` never does.
    """

    commands: tuple[tuple[str, ...], ...]
    folder: str = "checkout"
    cores: int = 2
    threads: str | None = None
    seed: str = "random"
    stop: tuple[str, int] | None = None
    forked: bool = True


WAYS = {
    "the flow": Way((FLOW,)),
    "DVC, on one core": Way((REPRO,), cores=1, seed="1"),
    "the flow, on one core": Way((FLOW,), cores=1, threads="4", seed="2"),
    "DVC, many threads": Way((REPRO,), threads="8"),
    "the flow, not forked": Way((FLOW,), forked=False, threads="2"),
    "the flow, elsewhere": Way((FLOW,), "a/deep er/path-é", seed="0"),
    "DVC, elsewhere": Way((REPRO,), "b c", threads="1", seed="3"),
    "the flow, stopped and run again": Way(
        (FLOW, FLOW), stop=("normalize", signal.SIGTERM)
    ),
    "the flow, killed, then DVC": Way(
        (FLOW, REPRO), stop=("baseline", signal.SIGKILL), cores=1
    ),
    "both engines, stage by stage": Way(
        ((*REPRO, "validate"), (*FLOW, "train"), (*REPRO, "baseline"), FLOW), seed="4"
    ),
}


def output_hashes(project: Path) -> dict[str, str]:
    """Return the hash of every output."""
    return {
        out["path"]: out["md5"]
        for stage in locked(project)["stages"].values()
        for out in stage["outs"]
    }


def stages(project: Path) -> list[str]:
    """Return the names of all stages."""
    named = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    params = yaml.safe_load((project / "params.yaml").read_text())
    variants = [f"train@{name}" for name in params["train"]["variants"]]
    return [*(name for name in named if name != "train"), *variants]


def prepare(way: Way, small: Path, root: Path) -> Path:
    """Make a checkout for the way."""
    project = root / way.folder
    project.parent.mkdir(parents=True, exist_ok=True)
    git(root, "clone", "-q", str(small), str(project))
    if not way.forked:
        text = (project / "dvc.yaml").read_text()
        plain, number = re.subn("cmd: python -m", "cmd: exec python -m", text)
        assert number == text.count("cmd:")
        (project / "dvc.yaml").write_text(plain)
    return project


def environment(way: Way, given: dict[str, str]) -> dict[str, str]:
    found = {**given, "PYTHONHASHSEED": way.seed}
    if way.threads:
        found |= dict.fromkeys(THREADS, way.threads)
    return found


def run_until_stopped(way: Way, project: Path, env: dict[str, str]) -> None:
    """Run the first command; send the signal once its stage is recorded."""
    assert way.stop
    stage, number = way.stop
    program, *arguments = way.commands[0]
    with subprocess.Popen(
        [str(Path(sys.executable).parent / program), *arguments],
        cwd=project,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_until(lambda: recorded(project, stage), seconds=120)
        process.send_signal(number)
        assert process.wait(60) != 0
    assert "report" not in locked(project)["stages"]


def recorded(project: Path, stage: str) -> bool:
    path = project / "dvc.lock"
    return path.exists() and f"  {stage}:" in path.read_text()


IN_CI = {"the flow", "DVC, elsewhere", "the flow, killed, then DVC"}


@pytest.fixture(scope="module")
def reference() -> dict[str, dict[str, str]]:
    """The hashes of the first way."""
    return {}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=pytest.mark.slow if name in IN_CI else pytest.mark.faults
        )
        for name in WAYS
    ],
)
def test_every_way_gives_the_same_bytes(
    name, small, prefect_server, tmp_path, reference
):
    way = WAYS[name]
    project, env = prepare(way, small, tmp_path), environment(way, prefect_server)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[: way.cores])
    try:
        if way.stop:
            run_until_stopped(way, project, env)
        for command in way.commands[1 if way.stop else 0 :]:
            ended = end(project, env, *command)
            assert ended.returncode == 0, ended.stdout
    finally:
        os.sched_setaffinity(0, cores)
    assert sorted(locked(project)["stages"]) == sorted(stages(project))
    reference.setdefault("made", output_hashes(project))
    assert output_hashes(project) == reference["made"]
