"""Faults at every moment of every step, in both engines: nothing is lost by any.

Each case makes one step of a finished small checkout again and lets it meet a fault.
The run must end well, or with one sentence and a status that says so; no half output
stands under its name, no process and no lock is left, and the next run ends with the
same hashes as an undisturbed one. `make test-faults` runs all of them, and then writes
`docs/faults.md`; `make test` runs a few.

Some cases can't differ from others and stand in the table with the result of those:

- The server and the databases are the engine's: what happens to them does not depend
  on the step, so they are tried with `train` alone. `dvc repro` asks no server, and
  has no `promote`.
- When a step begins, it has nothing open. It is the same program in both engines, so
  the flow is tried with `download` (a folder), `train` (files) and `promote` (no stage)
  at that moment.
"""

import itertools
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from checkouts import git
from conftest import (
    ROOT,
    server_environment,
    start_server,
    stop_server,
    wait_until,
)
from disturbed import DISK_BYTES, FLOW, PROMOTE, REPRO, Case, Engine, Lab

# The task that stands for each step.
STEPS = {
    "download": "download",
    "validate": "validate",
    "normalize": "normalize",
    "baseline": "baseline",
    "train": "train@scratch_sgd",
    "evaluate": "evaluate",
    "report": "report",
    "promote": PROMOTE,
}
MOMENTS = ("start", "middle", "end")
ENGINES = {engine.name: engine for engine in (FLOW, REPRO)}
LOCKED_SECONDS = 3
GONE_SECONDS = 2

Meanwhile = Callable[[Lab, int], None]


def told(number: int) -> Meanwhile:
    """Send a signal to the engine alone."""

    def act(lab: Lab, process: int) -> None:
        os.kill(process, number)

    return act


def interrupted(lab: Lab, process: int) -> None:
    """Press Ctrl-C: a terminal sends it to every process of the group."""
    os.killpg(process, signal.SIGINT)


def locked(lab: Lab, process: int) -> None:
    """Hold the locks of every database of the engines for a while."""
    server = Path(lab.environment["PREFECT_HOME"]) / "prefect.db"
    paths = [server, *(lab.root / "site").rglob("*.db")]
    assert len(paths) > 1
    with ExitStack() as stack:
        for path in paths:
            base = sqlite3.connect(path, timeout=30, isolation_level=None)
            stack.callback(base.close)
            base.execute("BEGIN EXCLUSIVE")
        lab.go_on()
        time.sleep(LOCKED_SECONDS)


class Fault(NamedTuple):
    """What the step does at its moment (`injected/`), and others do meanwhile.

    Attributes:
        fault: a method of the `Fault` that the step's process loads.
        outcomes: how a run may end.
        meanwhile: what happens while the step stands still.
        leaves: whether a temporary file is left; then the next run removes it.
    """

    fault: str
    outcomes: set[str]
    meanwhile: Meanwhile | None = None
    leaves: bool = False


FAULTS = {
    "kill -9": Fault("wait", {"killed"}, told(signal.SIGKILL), leaves=True),
    "SIGTERM": Fault("wait", {"stopped"}, told(signal.SIGTERM)),
    "Ctrl-C": Fault("wait", {"stopped"}, interrupted),
    "full disk": Fault("full", {"failed"}),
    # Where nothing may be written, nothing can be removed.
    "read-only folder": Fault("readonly", {"failed"}, leaves=True),
    "memory limit": Fault("memory", {"failed", "success"}, leaves=True),
    "crash": Fault("crash", {"failed"}, leaves=True),
    "server gone": Fault("wait", {"success"}),
    "database locked": Fault("wait", {"success"}, locked),
}
OF_THE_ENGINE = {"server gone", "database locked"}
OWN_START = {"download", "promote"}
# All is written by then, and no engine records it.
NEEDS_NO_ROOM = ("flow", "full disk", "promote", "end")
# A few of them for every day.
ALWAYS = {
    ("flow", "full disk", "train", "middle"),
    ("flow", "SIGTERM", "promote", "middle"),
    ("dvc repro", "SIGTERM", "evaluate", "middle"),
    ("dvc repro", "full disk", "normalize", "end"),
}

Key = tuple[str, str, str, str]


def twin(key: Key) -> Key | None:
    """The case that is tried for this one; None if there is nothing to try."""
    engine, fault, step, moment = key
    if engine == "dvc repro" and (fault == "server gone" or step == "promote"):
        return None
    if fault in OF_THE_ENGINE:
        return engine, fault, "train", moment
    if engine == "flow" and moment == "start" and step not in OWN_START:
        return engine, fault, "train", moment
    return key


EVERY = [
    (engine, fault, step, moment)
    for fault, step, engine, moment in itertools.product(
        FAULTS, STEPS, ENGINES, MOMENTS
    )
]
# The flow writes dvc.lock itself, so that half of it never stands there.
RECORDING = [
    ("flow", fault, "train", "record")
    for fault in ("kill -9", "SIGTERM", "Ctrl-C", "full disk")
]
TRIED = [key for key in EVERY if twin(key) == key] + RECORDING


class Result(NamedTuple):
    """How a case ended: in a word, and in the words of the run itself."""

    outcome: str
    said: str


@pytest.fixture(scope="session")
def results() -> dict[Key, Result]:
    """How each case ended that was tried."""
    return {}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small, prefect_server) -> Iterator[Lab]:
    """A finished checkout on a small disk of its own, where root may mount one."""
    root = tmp_path_factory.mktemp("lab")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(root)]
    on_disk = (
        shutil.which("mount") is not None
        and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    )
    try:
        lab = Lab(root, prefect_server)
        lab.build(small)
        yield lab
    finally:
        if on_disk:
            subprocess.run(["umount", "--lazy", str(root)], check=True)


@pytest.fixture
def lab(finished) -> Iterator[Lab]:
    """The finished checkout; after a case that failed, it is brought up to date."""
    yield finished
    finished.mend()
    for process in finished.processes():
        process.kill()
    if finished.locked() != finished.lock or finished.hashes() != finished.outputs:
        git(finished.project, "checkout", "-q", ".")
        for name in finished.left_over():
            (finished.project / name).unlink()
        finished.run(REPRO)


@pytest.fixture
def own_server(tmp_path) -> Iterator[tuple[dict[str, str], Meanwhile]]:
    """A server that may go, and what makes it go and come back."""
    environment = server_environment(tmp_path)
    servers = [start_server(environment)]

    def leave(lab: Lab, process: int) -> None:
        os.killpg(servers[-1].pid, signal.SIGKILL)
        servers[-1].wait()
        lab.go_on()
        time.sleep(GONE_SECONDS)
        servers.append(start_server(environment))

    yield environment, leave
    for server in servers:
        stop_server(server)


def marked(key: Key):
    marks = [] if key in ALWAYS else [pytest.mark.faults]
    return pytest.param(*key, marks=marks, id="-".join(key))


@pytest.mark.parametrize(
    ("engine", "fault", "step", "moment"),
    [marked(key) for key in TRIED if key[1] != "server gone"],
)
def test_a_fault_costs_nothing_but_time(lab, results, engine, fault, step, moment):
    if fault == "read-only folder" and not permissions_count():
        pytest.skip("root may write everywhere, and there is no setpriv")
    key = (engine, fault, step, moment)
    results[key] = survive(lab, key, FAULTS[fault].meanwhile)


@pytest.mark.faults
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_server_may_go_and_come_back(lab, results, own_server, monkeypatch, moment):
    environment, leave = own_server
    monkeypatch.setattr(lab, "environment", lab.environment | environment)
    key = ("flow", "server gone", "train", moment)
    results[key] = survive(lab, key, leave)


@pytest.mark.faults
def test_half_a_dvc_lock_which_dvc_itself_may_leave_is_mended_by_git(lab):
    lab.meet(REPRO, Case("wait", STEPS["train"], "record"), told(signal.SIGKILL))
    assert not lab.locked().items() >= lab.lock.items()
    git(lab.project, "checkout", "dvc.lock")
    same_as_ever(lab, FLOW)


@pytest.mark.faults
def test_the_table_is_what_the_tests_found(results):
    missing = [key for key in TRIED if key not in results]
    if missing:
        pytest.skip(f"{len(missing)} of {len(TRIED)} cases were not tried or failed")
    (ROOT / "docs" / "faults.md").write_text(page(results), encoding="utf-8")


def permissions_count() -> bool:
    return os.geteuid() != 0 or shutil.which("setpriv") is not None


def survive(lab: Lab, key: Key, meanwhile: Meanwhile | None) -> Result:
    """Let a case happen and see that nothing is lost."""
    name, fault, step, moment = key
    engine, kind = ENGINES[name], FAULTS[fault]

    def act(lab: Lab, process: int) -> None:
        assert meanwhile
        meanwhile(lab, process)
        if moment == "record":
            # The engine itself stands still: it takes the signal when it goes on.
            lab.go_on()

    case = Case(kind.fault, STEPS[step], moment)
    ended = lab.meet(engine, case, act if meanwhile else None)
    lab.mend()
    wait_until(lambda: not lab.processes())
    outcome = word(fault, ended.status)
    expected = {"success"} if key == NEEDS_NO_ROOM else kind.outcomes
    assert outcome in expected, ended.said
    assert "Traceback" not in ended.said, ended.said
    said = sentence(lab, engine, step, ended.said)
    may_be_silent = outcome in {"killed", "success"} or (
        outcome == "stopped" and engine is REPRO
    )
    assert said or may_be_silent, ended.said
    assert said.count("\n") <= 2, said

    assert lab.halves() == []
    assert lab.locked().items() <= lab.lock.items()
    left = lab.left_over()
    assert all(re.search(r"/\..+\.[a-z0-9_]{8}\.tmp$", f"/{name}") for name in left)
    assert left == [] or kind.leaves, ended.said
    if ended.status >= 0:
        # Of those that a signal ended DVC finds out that they are dead.
        assert lab.held_by(ended.process) == set()
    if step == "promote":
        same_as_ever(lab, FLOW)
        assert lab.crowned()
    else:
        same_as_ever(lab, REPRO if moment in {"start", "end"} else engine)
    return Result(outcome, said)


def same_as_ever(lab: Lab, engine: Engine) -> None:
    """Run the engine once more; it makes what an undisturbed run makes."""
    again = lab.run(engine)
    assert again.status == 0, again.said
    assert lab.locked() == lab.lock
    assert lab.hashes() == lab.outputs


def word(fault: str, status: int) -> str:
    """How a run ended, in a word."""
    if status == 0:
        return "success"
    if status == -signal.SIGKILL:
        return "killed"
    return "stopped" if fault in {"SIGTERM", "Ctrl-C"} else "failed"


def sentence(lab: Lab, engine: Engine, step: str, said: str) -> str:
    """What the run said of its end, without what differs from run to run."""
    if engine is FLOW:
        task = rf"Task run '{STEPS[step]}' - Finished in state (\w+)\((.*)\)$"
        ends = re.findall(task, said, re.MULTILINE)
        found = [
            f"{state}: {re.sub(', type=[A-Z]+$', '', reason)}"
            for state, reason in ends
            if state not in {"Completed", "Cached"}
        ]
        found += re.findall(
            r"Finished in state Crashed\('(.*?)'\)$", said, re.MULTILINE
        )
        found += re.findall(r"^Stopped by .*", said, re.MULTILINE)
    else:
        found = re.findall(rf"^tasks\.{step}: .*|^ERROR: .*", said, re.MULTILINE)
    text = "\n".join(found).replace(f"{lab.project}/", "")
    return re.sub(r"\.[a-z0-9_]{8}\.tmp", ".tmp", text)


def page(results: dict[Key, Result]) -> str:
    """What `docs/faults.md` says."""
    return "\n".join([INTRODUCTION, *table(results), SAYS, *words(results), ""])


def table(results: dict[Key, Result]) -> Iterator[str]:
    """Every fault at every step by every engine; in brackets, what was not tried."""
    yield "| fault | step | engine | start | middle | end | next run |"
    yield "|---|---|---|---|---|---|---|"
    for fault, step, engine in itertools.product(FAULTS, STEPS, ENGINES):
        cells = []
        for moment in MOMENTS:
            key = (engine, fault, step, moment)
            if tried := twin(key):
                outcome = results[tried].outcome
                cells.append(outcome if tried == key else f"({outcome})")
        if cells:
            yield f"| {fault} | {step} | {engine} | {' | '.join(cells)} | same hashes |"
    yield ""
    yield "| fault, while the flow records a result | outcome | next run |"
    yield "|---|---|---|"
    for key in RECORDING:
        yield f"| {key[1]} | {results[key].outcome} | same hashes |"


def words(results: dict[Key, Result]) -> Iterator[str]:
    """What the engines said, of one step."""
    yield "| fault | engine | what it says (`train`, middle) |"
    yield "|---|---|---|"
    for fault, engine in itertools.product(FAULTS, ENGINES):
        key = twin((engine, fault, "train", "middle"))
        if key:
            lines = results[key].said.splitlines()
            said = "<br>".join(f"`{line.replace('|', '/')}`" for line in lines)
            yield f"| {fault} | {engine} | {said or 'nothing'} |"


INTRODUCTION = """\
# Faults

Every step of the pipeline was made to meet every fault: at its start, while one of its
outputs is half written, and just before its last output gets its name. Written by
`make test-faults` from what it found. The faults come from the tests; the steps know
nothing of them.

- **success**: the run went on and ended well.
- **failed**, **stopped**: it ended with another status than 0 and said why.
- **killed**: it could say nothing any more.
- In brackets: not tried, because it can't differ from the case whose outcome stands
  there. The server and the databases are the engine's, whatever the step. A step that
  begins has nothing open, and is the same program in both engines. `dvc repro` has no
  `promote`, and asks no server.
- **Next run**: one run more made the same `dvc.lock` and the same files as a run that
  nothing disturbed.

After every case no output stands half written under its name, no process runs, and no
lock keeps anybody waiting. A temporary file (`.NAME.*.tmp`) is left only by what could
not remove it: a process that was killed or crashed, or whose folder became read-only.
git and DVC ignore those, and the next run that writes the output removes them.

The disk is full and the folders are read-only for everybody. Memory is limited for the
step alone, to what it has by then: late in a step it needs no more. While the server is
gone the flow asks again, for about a minute; so long both engines wait for a locked
database.

`dvc repro` writes `dvc.lock` in place: killed in that moment, it may leave half of it,
which DVC refuses, or takes for stages that never ran. `git checkout dvc.lock` mends
that. The flow writes `dvc.lock` whole or not at all.
"""
SAYS = "\n## What the engines say\n"
