"""Time prefect-dvc beside `dvc repro` on ten independent stages of 2 seconds.

A Prefect server is running. All stages run with one and with two jobs, then nothing is
left to do. `python benchmarks/engine.py` fails if a ratio is above its goal.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import measure
from job import BIN, Command, prefect_server, timed

ROUNDS = 3
NO_OP_ROUNDS = 7
STAGES = 10
GOALS = {
    "prefect-dvc run --jobs 1 / dvc repro": 1.15,
    "prefect-dvc run --jobs 2 / dvc repro": 0.65,
    "prefect-dvc run, no-op / dvc repro, no-op": 2.5,
}


def fresh(folder: Path) -> Path:
    """Create a project in `folder` whose stages have not run."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    stages = "".join(
        f"  s{n}:\n    cmd: sleep 2 && echo {n} > out{n}\n    outs: [out{n}]\n"
        for n in range(STAGES)
    )
    # A stage without dependencies would always run.
    stages = stages.replace("    outs:", "    deps: [source]\n    outs:")
    (folder / "dvc.yaml").write_text(f"stages:\n{stages}", encoding="utf-8")
    (folder / "source").write_text("source\n", encoding="utf-8")
    for command in (["git", "init", "-q"], [BIN / "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def main() -> None:
    """Measure and write the results."""
    seconds: dict[str, list[float]] = {}
    repro: Command = [BIN / "dvc", "repro"]
    run: Command = [BIN / "prefect-dvc", "run"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def record(what: str, command: Command, cwd: Path) -> None:
            seconds.setdefault(what, []).append(timed(command, cwd, env))

        with prefect_server(folder / "prefect") as env:
            for _ in range(ROUNDS):
                record("dvc repro", repro, fresh(folder / "dvc"))
                for jobs in "12":
                    command = [*run, "--jobs", jobs]
                    record(
                        f"prefect-dvc run --jobs {jobs}", command, fresh(folder / jobs)
                    )
            for _ in range(NO_OP_ROUNDS):
                record("dvc repro, no-op", repro, folder / "dvc")
                record("prefect-dvc run, no-op", run, folder / "2")
    ratios = {what: measure.ratio(seconds, *what.split(" / ")) for what in GOALS}
    measure.write("engine", seconds, ratios, goals=GOALS)
    missed = [what for what, goal in GOALS.items() if ratios[what] > goal]
    if missed:
        sys.exit(f"Above the goal: {', '.join(missed)}.")


if __name__ == "__main__":
    main()
