"""Write the tables in README.md and docs/results.md from the measured results.

The header identifies a table. `python benchmarks/tables.py`.
"""

import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flows import seeds as flows_seeds
from flows.results import artifacts

ROOT = Path(__file__).resolve().parent.parent
Table = list[list[str]]


def _result(name: str) -> dict[str, Any]:
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def models() -> Table:
    """Return the table of the models, as the Prefect UI shows it."""
    metrics = json.loads((ROOT / "reports" / "metrics.json").read_text("utf-8"))
    rows = artifacts.table(metrics)
    return [list(rows[0]), *(list(row.values()) for row in rows)]


def seeds() -> Table:
    """Return mean and standard deviation of the accuracy over the seeds."""
    spread = json.loads((ROOT / "reports" / "seeds.json").read_text("utf-8"))["models"]
    most = max(model["n"] for model in spread.values())
    return [
        [f"{most} seeds", "validation", "test"],
        *(
            [
                f"`{name}`",
                *(flows_seeds.accuracy(**model[part]) for part in ("valid", "test")),
            ]
            for name, model in spread.items()
        ),
    ]


def larger() -> Table:
    """Return the accuracy of the larger networks, and their processor seconds."""

    def spread(rows: list[dict[str, Any]], key: str) -> str:
        values = [row[key] for row in rows]
        if len(values) == 1:
            return f"{values[0]:.4f}"
        return f"{min(values):.4f} to {max(values):.4f}"

    return [
        ["larger network", "seeds", "epochs", "seconds", "validation", "test"],
        *(
            [
                f"`{name}`",
                str(len(rows)),
                str(rows[0]["epochs"]),
                str(round(statistics.median(row["seconds"] for row in rows))),
                spread(rows, "valid"),
                spread(rows, "test"),
            ]
            for name, rows in _result("larger")["variants"].items()
        ),
    ]


def handmade() -> Table:
    """Return how the digits made by hand were classified."""
    kinds = _result("handmade")["kinds"]
    rows = {kind: kinds[kind] for kind in sorted(kinds) if kind != "all"}
    rows["all"] = kinds["all"]
    return [
        [
            *("digits made by hand", "images", "right", "set aside"),
            *("wrong", "set aside", "not readable"),
        ],
        *(
            [
                kind.replace("_", ", "),
                *(
                    str(counts[key])
                    for key in (
                        *("images", "right", "right_set_aside"),
                        *("wrong", "wrong_set_aside", "unread"),
                    )
                ),
            ]
            for kind, counts in rows.items()
        ),
    ]


def epoch() -> Table:
    """Return the time of an epoch, relative to the floor and the textbook's loop."""
    ratios = _result("epoch")["ratios"]
    names = [key.split(" / ")[0] for key in ratios if key.endswith(" / floor")]
    loops = {
        key.split(" / ")[1]: value
        for key, value in ratios.items()
        if key.startswith("textbook")
    }
    return [
        ["one epoch", "time / floor", "textbook's time / ours"],
        *(
            [f"`{name}`", f"{ratios[f'{name} / floor']:.2f}", f"{loops[name]:.2f}"]
            for name in names
        ),
    ]


def job() -> Table:
    """Return the time of the whole job, as ratios."""
    libraries = {
        f"one epoch, {key}": value
        for key, value in _result("epoch")["ratios"].items()
        if key.startswith(("skorch", "lightning"))
    }
    nights = {
        f"scheduled runs, {key}": value
        for key, value in _result("soak")["ratios"].items()
    }
    jobs, growth, predict = (
        _result(name)["ratios"] for name in ("job", "growth", "predict")
    )
    ratios = {**jobs, **growth, **predict, **libraries, **nights}
    rows = [[what, f"{value:.2f}"] for what, value in ratios.items()]
    return [["whole job, growth, libraries, schedule", "ratio"], *rows]


def updated(name: str) -> str:
    """Return the text of the page `name` with its tables as they should be."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for table in PAGES[name]():
        header = re.escape("| " + " | ".join(table[0]) + " |\n")
        new = artifacts.markdown(table) + "\n"
        text, found = re.subn(rf"{header}(\|.*\n)+", lambda _, new=new: new, text)
        if found != 1:
            sys.exit(f"{name} has {found} tables with the header {table[0]}, not 1.")
    return text


PAGES: dict[str, Callable[[], list[Table]]] = {
    "README.md": lambda: [models()],
    "docs/results.md": lambda: [seeds(), larger(), handmade(), epoch(), job()],
}

if __name__ == "__main__":
    for page in PAGES:
        (ROOT / page).write_text(updated(page), encoding="utf-8")
