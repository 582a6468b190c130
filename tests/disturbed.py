"""A finished small checkout in which one step runs again and meets a fault.

`Lab.run_with_fault` runs an engine into the fault. `injected/sitecustomize.py`, which
every Python of the run loads, injects it. Faults that need another process (signals,
the server, locks) are functions of the caller; the step waits for them at its moment.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml
from checkouts import edit, git
from conftest import wait_until

from tasks.registry import champions
from tasks.registry.champions import CARD, FILE, HISTORY, RECORD

INJECTED = Path(__file__).with_name("injected")
BIN = Path(sys.executable).parent
# Folders that hold no outputs.
IGNORED = {".git", ".dvc", "__pycache__"}
OUTPUT_FOLDERS = ("data", "models", "reports")
DISK_BYTES = 96 << 20
VARIANT = "scratch_sgd"  # the only one in the lab
# A step outside the graph, and its outputs.
PROMOTE = "promote"
CHAMPION = [str(path) for path in (FILE, RECORD, HISTORY, CARD)]


class Engine(NamedTuple):
    """A way to run the pipeline: its command, and the end of its program's path."""

    name: str
    command: tuple[str, ...]
    program: str


FLOW = Engine("flow", ("python", "-m", "flows.pipeline"), "flows/pipeline.py")
REPRO = Engine("dvc repro", ("dvc", "repro"), "bin/dvc")


class Case(NamedTuple):
    """A fault (a method of `Injector`) at a moment of a step."""

    fault: str
    step: str
    moment: str


class Ended(NamedTuple):
    """How a run ended: its exit status, its output, and its process id."""

    status: int
    output: str
    process: int


class Lab:
    """The finished checkout at `root / "project"`."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.root = root
        self.project = root / "project"
        self.notes = root / "notes"
        self.environment = {
            **environment,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "DVC_SITE_CACHE_DIR": str(root / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(root / "global"),
            "DVC_SYSTEM_CONFIG_DIR": str(root / "system"),
            "PATH": os.pathsep.join([str(BIN), environment["PATH"]]),
            "PYTHONPATH": str(INJECTED),
            "SHELL": "/bin/sh",
            "LAB": str(root),
        }
        self.lock: dict[str, Any] = {}
        self.outputs: dict[str, str] = {}

    def build(self, source: Path) -> None:
        """Clone `source`, keep one variant, and run the pipeline."""
        self.notes.mkdir()
        git(self.root, "clone", "-q", str(source), str(self.project))
        edit(self.project / "params.yaml", keep_one_variant)
        ended = self.run(REPRO)
        assert ended.status == 0, ended.output
        git(self.project, "add", "-A")
        git(self.project, "commit", "-qm", "done")
        self.lock, self.outputs = self.read_lock(), self.hashes()

    def read_lock(self) -> dict[str, Any]:
        """Return the stages in dvc.lock."""
        return yaml.safe_load((self.project / "dvc.lock").read_text())["stages"]

    def files(self, step: str) -> list[str]:
        """Return the output files of a step."""
        if step == PROMOTE:
            return CHAMPION
        outs = [out["path"] for out in self.lock[step]["outs"]]
        return [
            name
            for name in self.outputs
            if any(name == out or name.startswith(f"{out}/") for out in outs)
        ]

    def hashes(self) -> dict[str, str]:
        """Return the hash of every file that any run of the pipeline reproduces.

        The champion has a date, and only the flow promotes one.
        """
        found = {}
        for folder, inner, names in os.walk(self.project):
            inner[:] = [name for name in inner if name not in IGNORED]
            for name in names:
                path = Path(folder, name)
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path.relative_to(self.project))] = digest
        return {name: found[name] for name in found.keys() - {*CHAMPION, "dvc.lock"}}

    def forget(self, step: str) -> None:
        """Remove the record that a step has run."""
        if step == PROMOTE:
            self.remove_outputs(step)
            return
        edit(self.project / "dvc.lock", lambda lock: lock["stages"].pop(step))
        shutil.rmtree(self.project / ".dvc" / "cache" / "runs", ignore_errors=True)

    def remove_outputs(self, step: str) -> None:
        """Remove the outputs of a step."""
        for name in self.files(step):
            (self.project / name).unlink(missing_ok=step == PROMOTE)

    def run(self, engine: Engine) -> Ended:
        """Run an engine without a fault."""
        with self.start(engine) as process:
            status = process.wait()
        return Ended(status, self.output(), process.pid)

    def start(
        self, engine: Engine, *before: str, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start an engine in a process group of its own, like a terminal does."""
        program, *arguments = engine.command
        with (self.notes / "output").open("wb") as output:
            return subprocess.Popen(
                [*before, str(BIN / program), *arguments],
                cwd=self.project,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        """Return the output of the last engine."""
        return (self.notes / "output").read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Return the running processes that were started in this lab."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                is_ours = process.environ().get("LAB") == str(self.root)
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def run_with_fault(
        self, engine: Engine, case: Case, act: Callable[["Lab", int], None] | None
    ) -> Ended:
        """Run a step again into a fault.

        Args:
            engine: runs the step.
            case: the fault, the step and the moment.
            act: what else happens at the moment, given the process id of the engine.
                The step waits until `resume` is called.
        """
        self.forget(case.step)
        if case.moment == "middle":
            # The flow forks a stage from its server only if the outputs are missing.
            self.remove_outputs(case.step)
        for name in ("reached", "go on"):
            (self.notes / name).unlink(missing_ok=True)
        before = ()
        if case.fault == "readonly" and os.geteuid() == 0:
            # Root may write to read-only folders unless it drops this capability.
            before = ("setpriv", "--bounding-set=-dac_override")
        fault = self.fault_settings(engine, case)
        with self.start(engine, *before, FAULT=json.dumps(fault)) as process:
            if act:
                wait_until(lambda: self.reached() or process.poll() is not None, 120)
                if self.reached():
                    act(self, process.pid)
            status = process.wait(240)
        assert self.reached(), f"the moment was not reached: {self.output()}"
        return Ended(status, self.output(), process.pid)

    def fault_settings(self, engine: Engine, case: Case) -> dict[str, Any]:
        """Return the settings for `injected/sitecustomize.py`."""
        n_files = len(self.files(case.step))
        step = case.step.partition("@")[0]
        is_record = case.moment == "record"
        return {
            "fault": case.fault,
            "moment": case.moment,
            "program": engine.program if is_record else f"tasks/{step}.py",
            # One in the middle of several, so that some outputs are complete.
            "number": n_files // 2 + 1 if case.moment == "middle" else n_files,
            "notes": str(self.notes),
            "root": str(self.root),
            "folders": [str(self.project / name) for name in OUTPUT_FOLDERS],
        }

    def reached(self) -> bool:
        """Return whether the moment was reached."""
        return (self.notes / "reached").exists()

    def resume(self) -> None:
        """Let a waiting step continue."""
        (self.notes / "go on").touch()

    def remove_fault(self) -> None:
        """Empty the disk and make the folders writable."""
        (self.root / "filler").unlink(missing_ok=True)
        for name in OUTPUT_FOLDERS:
            for folder, _, _ in os.walk(self.project / name):
                Path(folder).chmod(0o755)

    def has_champion(self) -> bool:
        """Return whether there is exactly one champion, with all its files."""
        with chdir(self.project):
            history = champions.history()
            return len(history) == 1 and champions.in_place(history[0].champion)

    def unexpected_files(self) -> list[str]:
        """Return the files that no finished run leaves."""
        return sorted(set(self.hashes()) - set(self.outputs))

    def changed_outputs(self) -> list[str]:
        """Return the outputs whose content differs from the finished run's."""
        return [
            name
            for name, digest in self.hashes().items()
            if self.outputs.get(name, digest) != digest
        ]

    def locks_of(self, process: int) -> set[str]:
        """Return the paths that DVC's rwlock file assigns to a process."""
        path = self.project / ".dvc" / "tmp" / "rwlock"
        locks = json.loads(path.read_text()) if path.exists() else {}
        readers = locks.get("read", {}).items()
        writers = ((name, [info]) for name, info in locks.get("write", {}).items())
        return {
            name
            for name, infos in (*readers, *writers)
            if process in [info["pid"] for info in infos]
        }


def keep_one_variant(params: dict[str, Any]) -> None:
    variants = params["train"]["variants"]
    params["train"] |= {"variants": {VARIANT: variants[VARIANT]}, "device": "cpu"}
