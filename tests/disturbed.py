"""A finished small checkout, one step of which is made again and meets a fault.

`Lab.meet` runs an engine into the fault, looks at what is left, and lets the engine run
once more. The fault itself comes from `injected/sitecustomize.py`, which every Python
of the run loads; what only another process can do (signals, the server, locks) is done
by a function that the caller gives, while the step stands still at its moment.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml
from checkouts import git
from conftest import wait_until

from tasks.registry import champions
from tasks.registry.champions import CARD, FILE, HISTORY, RECORD

INJECTED = Path(__file__).with_name("injected")
BIN = Path(sys.executable).parent
# What runs make that is no output: the code as Python keeps it, and the two engines'.
NOT_LOOKED_AT = {".git", ".dvc", "__pycache__"}
DISK_BYTES = 96 << 20
# The step that is no stage, and what it makes.
PROMOTE = "promote"
STATE = [str(path) for path in (FILE, RECORD, HISTORY, CARD)]


class Engine(NamedTuple):
    """A way to run the pipeline: its command, and its program as the process says."""

    name: str
    command: tuple[str, ...]
    program: str


FLOW = Engine("flow", ("python", "-m", "flows.pipeline"), "flows/pipeline.py")
REPRO = Engine("dvc repro", ("dvc", "repro"), "bin/dvc")


class Case(NamedTuple):
    """A fault at a moment of a step: `fault` is a method of `Fault`."""

    fault: str
    step: str
    moment: str


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status, what it printed, which process it was."""

    status: int
    said: str
    process: int


class Lab:
    """The checkout at `root / "project"`, as `dvc repro` or a flow finished it."""

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
        """Fill the lab with a checkout of `source`, and bring it up to date."""
        self.notes.mkdir()
        git(self.root, "clone", "-q", str(source), str(self.project))
        ended = self.run(REPRO)
        assert ended.status == 0, ended.said
        git(self.project, "add", "-A")
        git(self.project, "commit", "-qm", "done")
        self.lock, self.outputs = self.locked(), self.hashes()

    def locked(self) -> dict[str, Any]:
        """What dvc.lock says."""
        return yaml.safe_load((self.project / "dvc.lock").read_text())["stages"]

    def outs(self, step: str) -> list[str]:
        """The outputs of a stage, as dvc.lock names them."""
        return [out["path"] for out in self.lock[step]["outs"]]

    def files(self, step: str) -> list[str]:
        """The files of a step's outputs."""
        if step == PROMOTE:
            return STATE
        outs = self.outs(step)
        return [
            name
            for name in self.outputs
            if any(name == out or name.startswith(f"{out}/") for out in outs)
        ]

    def hashes(self) -> dict[str, str]:
        """Every file of the checkout, other than what the engines keep.

        Nor the champion's: it is state, with a date, and only the flow has one.
        """
        found = {}
        for folder, inner, names in os.walk(self.project):
            inner[:] = [name for name in inner if name not in NOT_LOOKED_AT]
            for name in names:
                path = Path(folder, name)
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path.relative_to(self.project))] = digest
        return {name: found[name] for name in found.keys() - {*STATE, "dvc.lock"}}

    def forget(self, step: str) -> None:
        """Let nobody know any more that a step was run."""
        if step == PROMOTE:
            self.remove(step)
            return
        path = self.project / "dvc.lock"
        lock = yaml.safe_load(path.read_text())
        del lock["stages"][step]
        path.write_text(yaml.safe_dump(lock, sort_keys=False))
        shutil.rmtree(self.project / ".dvc" / "cache" / "runs", ignore_errors=True)

    def remove(self, step: str) -> None:
        """Remove the outputs of a step."""
        for name in self.files(step):
            (self.project / name).unlink(missing_ok=step == PROMOTE)

    def run(self, engine: Engine, **more: str) -> Ended:
        """Run an engine to its end, undisturbed."""
        with self.start(engine, **more) as process:
            status = process.wait()
        return Ended(status, self.said(), process.pid)

    def start(
        self, engine: Engine, *before: str, **more: str
    ) -> subprocess.Popen[bytes]:
        """Start an engine, alone in its process group as a terminal would."""
        program, *arguments = engine.command
        with (self.notes / "said").open("wb") as said:
            return subprocess.Popen(
                [*before, str(BIN / program), *arguments],
                cwd=self.project,
                env=self.environment | more,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """What the last engine printed."""
        return (self.notes / "said").read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """What was started in this lab and still runs."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.environ().get("LAB") == str(self.root)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def meet(
        self, engine: Engine, case: Case, meanwhile: Callable[["Lab", int], None] | None
    ) -> Ended:
        """Make a step again by `engine`, into a fault; return how that ended.

        Args:
            engine: which of the two.
            case: what to meet, and where.
            meanwhile: what to do to the run, whose process is given, while the step
                stands still; it must say `go_on` if the step is to go on.
        """
        self.forget(case.step)
        if case.moment == "middle":
            # Then the flow forks the stage from its server; otherwise it does not.
            self.remove(case.step)
        for name in ("reached", "go on"):
            (self.notes / name).unlink(missing_ok=True)
        before = ()
        if case.fault == "readonly" and os.geteuid() == 0:
            # Root may write where the permissions say no, unless it gives that up.
            before = ("setpriv", "--bounding-set=-dac_override")
        with self.start(engine, *before, FAULT=self.asked(engine, case)) as process:
            if meanwhile:
                wait_until(lambda: self.reached() or process.poll() is not None, 120)
                if self.reached():
                    meanwhile(self, process.pid)
            status = process.wait(240)
        assert self.reached(), f"the moment did not come: {self.said()}"
        return Ended(status, self.said(), process.pid)

    def asked(self, engine: Engine, case: Case) -> str:
        """What `injected/sitecustomize.py` is told."""
        files = len(self.files(case.step))
        name = case.step.partition("@")[0]
        asked = {
            "fault": case.fault,
            "moment": case.moment,
            "program": engine.program
            if case.moment == "record"
            else f"tasks/{name}.py",
            # The middle one of several, so that some have their names already.
            "number": files // 2 + 1 if case.moment == "middle" else files,
            "notes": str(self.notes),
            "root": str(self.root),
            "folders": [
                str(self.project / name) for name in ("data", "models", "reports")
            ],
        }
        return json.dumps(asked)

    def reached(self) -> bool:
        """Whether the moment came."""
        return (self.notes / "reached").exists()

    def go_on(self) -> None:
        """Let the step go on that stands still."""
        (self.notes / "go on").touch()

    def mend(self) -> None:
        """Take away what made the trouble."""
        (self.root / "filler").unlink(missing_ok=True)
        for name in ("data", "models", "reports"):
            for folder, _, _ in os.walk(self.project / name):
                Path(folder).chmod(0o755)

    def crowned(self) -> bool:
        """Whether there is one champion, whose files are all in place."""
        with chdir(self.project):
            history = champions.history()
            return len(history) == 1 and champions.in_place(history[0].champion)

    def left_over(self) -> list[str]:
        """Files of the checkout that no finished run leaves."""
        return sorted(set(self.hashes()) - set(self.outputs))

    def halves(self) -> list[str]:
        """Outputs that stand under their names with other content."""
        return [
            name
            for name, digest in self.hashes().items()
            if self.outputs.get(name, digest) != digest
        ]

    def held_by(self, process: int) -> set[str]:
        """What DVC believes to be held by a process."""
        path = self.project / ".dvc" / "tmp" / "rwlock"
        locks = json.loads(path.read_text()) if path.exists() else {}
        writers = {path: [info] for path, info in locks.get("write", {}).items()}
        return {
            path
            for held in (locks.get("read", {}), writers)
            for path, infos in held.items()
            if process in [info["pid"] for info in infos]
        }
