"""Try a reader on a hostile file in a process with little memory and time."""

import subprocess
import sys
from pathlib import Path

from samples import ROOT

MEMORY = 1 << 30
SECONDS = 30

PROGRAM = """
import resource, sys
from pathlib import Path
from tasks.runtime.params import BadInput

path = Path(sys.argv[1])
{imports}
# As much as there is now, and so much more.
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + {memory}
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
{program}
except BadInput as refused:
    print(refused)
else:
    sys.exit("it was not refused")
"""


def in_a_box(program: str, path: Path, imports: str = "", memory: int = MEMORY) -> str:
    """Return the sentence by which `program` refuses the file at `path`.

    It has `memory` bytes more than its imports take, and half a minute.
    """
    body = "\n".join(f"    {line}" for line in program.splitlines())
    text = PROGRAM.format(imports=imports, program=body, memory=memory)
    done = subprocess.run(
        [sys.executable, "-c", text, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.rstrip("\n")
