"""Injects a fault into one program of a test; every Python of the test loads it.

The test describes the fault in the environment, as JSON under FAULT: the program (the
end of its path), the moment, the fault (a method of `Injector`), and `notes`, a folder
for signals between the test and the program. The fault happens once. Python's audit
events show the moments, so the program needs no hooks:

start   the program's main module begins to run
middle  one of its output files is half written, under its temporary name
end     its last output file is about to be renamed
record  dvc.lock is half written
"""

import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

WAIT_SECONDS = 120
# The linker and the allocators keep some memory in reserve.
SPARE_BYTES = 1 << 20


class Injector:
    """Counts the program's audit events and injects the fault at its moment."""

    def __init__(self, settings):
        self.settings = settings
        self.notes = Path(settings["notes"])
        self.done = False
        self.outputs = 0

    def audit(self, event, args):
        """Inject the fault if this audit event is the moment."""
        if self.done or event not in {"exec", "open", "os.rename"}:
            return
        moment, program = self.settings["moment"], self.settings["program"]
        if event == "exec":
            code = args[0]
            is_main = code.co_filename.endswith(program) and code.co_name == "<module>"
            if moment == "start" and is_main:
                self.inject()
        elif not sys.argv or not sys.argv[0].endswith(program):
            return
        elif moment == "record" and event == "open" and writes(args, "dvc.lock"):
            self.inject(Path(args[0]))
        elif moment == "middle" and event == "open" and writes(args, ".tmp"):
            self.count_output(Path(args[0]))
        elif moment == "end" and event == "os.rename" and str(args[0]).endswith(".tmp"):
            self.count_output()

    def count_output(self, path=None):
        """Inject the fault if this is the chosen output."""
        self.outputs += 1
        if self.outputs == self.settings["number"]:
            self.inject(path)

    def inject(self, path=None):
        """Truncate the file at `path`, if any, then inject the fault, once per test."""
        self.done = True
        try:
            with (self.notes / "reached").open("x") as reached:
                reached.write(str(os.getpid()))
        except FileExistsError:
            return
        if path is not None:
            truncate(path)
        getattr(self, self.settings["fault"])()

    def wait(self):
        """Wait until the test has done its part."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (self.notes / "go on").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the test did not create the file `go on`")
            time.sleep(0.005)

    def crash(self):
        """End with a segmentation fault."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signal.SIGSEGV)

    def memory(self):
        """Limit the memory to little more than is in use."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def full(self):
        """Fill the test's own disk; without one, forbid this program to write."""
        if not os.path.ismount(self.settings["root"]):
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return
        filler = Path(self.settings["root"]) / "filler"
        for size in (1 << 16, 1):
            with suppress(OSError), filler.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(size))

    def readonly(self):
        """Make every output folder read-only."""
        for folder in self.settings["folders"]:
            for path, _, _ in os.walk(folder):
                Path(path).chmod(0o555)


def writes(args, name):
    """Return whether an `open` event opens a file with `name` in its name to write."""
    path, mode, _ = args
    return (
        isinstance(path, str | os.PathLike)
        and name in Path(path).name
        and bool(set(mode or "") & set("w+"))
    )


def truncate(path):
    """Leave half of the file at a path, or a few bytes if it is empty."""
    with suppress(FileNotFoundError):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] or b"half")


if "FAULT" in os.environ:
    sys.addaudithook(Injector(json.loads(os.environ["FAULT"])).audit)
