"""Lets one program of a run meet a fault at a moment; loaded by every Python of a test.

The test says in the environment, as JSON under FAULT, which program (the end of its
path), which moment and which fault; `notes` is the folder that the two talk through.
A fault comes once. It knows the moments by Python's audit events, so the program has
no part in it:

start   the program's own module begins to run
middle  one of its output files is half written, under its temporary name
end     its last output file is about to get its name
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

MOST_SECONDS = 120
# What the linkers and allocators hold in reserve may still be used.
SPARE_BYTES = 1 << 20


class Fault:
    """What the environment asks for, and how far the program is on its way to it."""

    def __init__(self, asked):
        self.asked = asked
        self.notes = Path(asked["notes"])
        self.done = False
        self.seen = 0

    def come(self, event, args):
        """Act if this audit event is the moment."""
        if self.done or event not in {"exec", "open", "os.rename"}:
            return
        moment = self.asked["moment"]
        if event == "exec":
            if moment == "start" and self.begins(args[0]):
                self.act()
        elif not sys.argv or not sys.argv[0].endswith(self.asked["program"]):
            return
        elif moment == "record" and event == "open" and writes(args, "dvc.lock"):
            self.act(Path(args[0]))
        elif moment == "middle" and event == "open" and writes(args, ".tmp"):
            self.count(Path(args[0]))
        elif moment == "end" and event == "os.rename" and str(args[0]).endswith(".tmp"):
            self.count()

    def begins(self, code):
        """Whether it is the program's own module."""
        ours = code.co_filename.endswith(self.asked["program"])
        return ours and code.co_name == "<module>"

    def count(self, half=None):
        """Act if it is the output that was asked for."""
        self.seen += 1
        if self.seen == self.asked["number"]:
            self.act(half)

    def act(self, half=None):
        """Do it, unless another did; first leave half a file at the path `half`."""
        self.done = True
        try:
            with (self.notes / "reached").open("x") as reached:
                reached.write(str(os.getpid()))
        except FileExistsError:
            return
        if half is not None:
            cut(half)
        getattr(self, self.asked["fault"])()

    def wait(self):
        """Stand still until the test has done its part."""
        deadline = time.monotonic() + MOST_SECONDS
        while not (self.notes / "go on").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the test did not say to go on")
            time.sleep(0.005)

    def crash(self):
        """End as a program does that reads memory that is not its own."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signal.SIGSEGV)

    def memory(self):
        """Allow hardly more memory than is used by now."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def full(self):
        """Fill the disk; if there is none of ours, allow this program no more bytes."""
        # Not for anything the disk that everybody else uses.
        if not os.path.ismount(self.asked["root"]):
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return
        for size in (1 << 16, 1):
            with (
                suppress(OSError),
                (Path(self.asked["root"]) / "filler").open("ab", buffering=0) as file,
            ):
                while True:
                    file.write(bytes(size))

    def readonly(self):
        """Take the permission to write into every folder that outputs go into."""
        for folder in self.asked["folders"]:
            for path, _, _ in os.walk(folder):
                Path(path).chmod(0o555)


def writes(args, name):
    """Whether an `open` event is that of a file of such a name, to be written."""
    path, mode, _ = args
    return (
        isinstance(path, str | os.PathLike)
        and name in Path(path).name
        and bool(set(mode or "") & set("w+"))
    )


def cut(path):
    """Leave half of what stands at a path, or some bytes where nothing stands."""
    with suppress(FileNotFoundError):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] or b"half")


if "FAULT" in os.environ:
    sys.addaudithook(Fault(json.loads(os.environ["FAULT"])).come)
