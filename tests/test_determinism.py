"""However the pipeline is run on one machine, it makes the same bytes.

`test_pipeline.py` compares the two engines every day; here are ten ways, one of them
the reference, which differ in all that must not matter.
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
from conftest import wait_until

pytestmark = pytest.mark.faults

FLOW = ("python", "-m", "flows.pipeline")
REPRO = ("dvc", "repro")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Way(NamedTuple):
    """A way to run the pipeline.

    Attributes:
        commands: what is run, one after the other, until all is up to date.
        folder: where the checkout is.
        cores: how many the programs may use.
        threads: what the environment asks the numeric libraries for.
        seed: of Python's hashes, which decides the order of sets.
        stop: the stage after which the first command is stopped, and how.
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
    "DVC, asked for many threads": Way((REPRO,), threads="8"),
    "the flow, not forked": Way((FLOW,), forked=False, threads="2"),
    "the flow, elsewhere": Way((FLOW,), "a/deep er/path-é", seed="0"),
    "DVC, elsewhere": Way((REPRO,), "b c", threads="1", seed="3"),
    "the flow, stopped, and gone on with": Way(
        (FLOW, FLOW), stop=("normalize", signal.SIGTERM)
    ),
    "the flow, killed, and gone on with by DVC": Way(
        (FLOW, REPRO), stop=("baseline", signal.SIGKILL), cores=1
    ),
    "step by step, by one and the other": Way(
        ((*REPRO, "validate"), (*FLOW, "train"), (*REPRO, "baseline"), FLOW), seed="4"
    ),
}


def made(project: Path) -> dict[str, str]:
    """Every output and its hash."""
    return {
        out["path"]: out["md5"]
        for stage in locked(project)["stages"].values()
        for out in stage["outs"]
    }


def stages(project: Path) -> list[str]:
    """Every stage that dvc.yaml has."""
    named = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    params = yaml.safe_load((project / "params.yaml").read_text())
    variants = [f"train@{name}" for name in params["train"]["variants"]]
    return [*(name for name in named if name != "train"), *variants]


def prepared(way: Way, small: Path, root: Path) -> Path:
    """A checkout where and as the way wants it."""
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


def stopped(way: Way, project: Path, env: dict[str, str]) -> None:
    """Run the first command and stop it when its stage is recorded."""
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


@pytest.fixture(scope="module")
def reference() -> dict[str, dict[str, str]]:
    """What the first way made that was tried."""
    return {}


@pytest.mark.parametrize("name", WAYS)
def test_whatever_the_way_the_bytes_are_the_same(
    name, small, prefect_server, tmp_path, reference
):
    way = WAYS[name]
    project, env = prepared(way, small, tmp_path), environment(way, prefect_server)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[: way.cores])
    try:
        if way.stop:
            stopped(way, project, env)
        for command in way.commands[1 if way.stop else 0 :]:
            ended = end(project, env, *command)
            assert ended.returncode == 0, ended.stdout
    finally:
        os.sched_setaffinity(0, cores)
    assert sorted(locked(project)["stages"]) == sorted(stages(project))
    reference.setdefault("made", made(project))
    assert made(project) == reference["made"]
