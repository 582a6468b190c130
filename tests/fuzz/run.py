"""Run the targets under atheris: `python tests/fuzz/run.py [RUNS [TARGET ...]]`.

Coverage guides the fuzzer: it saves an input that reaches new code in the readers, or
in the Python libraries that they use, and mutates it further. Compiled code such as
safetensors has no coverage, but its crashes are found. The targets run one after
another, each in its own process. A target starts from its corpus here and from the
inputs that earlier runs saved in `.fuzz/TARGET/`. Findings go there too, and the log to
`.fuzz/TARGET.log`. The exit status is 0 if nothing was found.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOUND = HERE.parent.parent / ".fuzz"
RUNS = 1_000_000
SECONDS, MEGABYTES = 10, 2048  # limits of one input and of the process
# The size of an input; 600 bytes for the other targets.
MAX_BYTES = dict.fromkeys(("params", "model", "splits"), 1500)
MAX_BYTES |= {"pickle": 2000, "archive": 3000}
NAMES = sorted(path.name for path in (HERE / "corpus").iterdir() if path.is_dir())


def fuzz(name: str, runs: str) -> None:
    """Run one target in this process."""
    import atexit  # noqa: PLC0415  # atheris is needed only here

    import atheris  # noqa: PLC0415

    sys.path[:0] = [str(HERE), str(HERE.parent.parent)]
    with atheris.instrument_imports(include=["tasks", "ruamel", "pickletools"]):
        import pickletools  # noqa: F401, PLC0415  # instrumented, for a reader

        import targets  # noqa: PLC0415
    atexit.register(targets.remove_folder)
    options = [
        f"-atheris_runs={runs}",
        f"-max_len={MAX_BYTES.get(name, 600)}",
        f"-timeout={SECONDS}",
        f"-rss_limit_mb={MEGABYTES}",
        f"-artifact_prefix={FOUND / name}/found-",
    ]
    if (words := HERE / "corpus" / f"{name}.dict").exists():
        options.append(f"-dict={words}")
    folders = [str(FOUND / name), str(HERE / "corpus" / name)]
    atheris.Setup([sys.argv[0], *options, *folders], targets.TARGETS[name])
    atheris.Fuzz()


def run(name: str, runs: int) -> bool:
    """Run one target in its own process; return whether nothing was found."""
    (FOUND / name).mkdir(parents=True, exist_ok=True)
    log = FOUND / f"{name}.log"
    with log.open("w") as file:
        command = [sys.executable, __file__, "--one", name, str(runs)]
        subprocess.run(command, stdout=file, stderr=file, check=False)
    output = log.read_text(errors="replace")
    done = re.search(r"^Done (\d+) in (\d+) second", output, re.MULTILINE)
    if done and not list((FOUND / name).glob("found-*")):
        print(f"{name}: {int(done[1]):,} inputs in {done[2]} s, nothing found")
        return True
    print(f"{name}: see {log} and {FOUND / name}/found-*")
    return False


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(*sys.argv[2:])
    else:
        number, *names = sys.argv[1:] or [str(RUNS)]
        results = [run(name, int(number)) for name in names or NAMES]
        sys.exit(0 if all(results) else 1)
