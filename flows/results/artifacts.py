"""What the run page in the Prefect UI shows of a finished run."""

import base64
import json
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    Artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.logging import get_run_logger

from prefect_dvc import retry_connection
from tasks.evaluation import metrics_file
from tasks.runtime.params import BadInput

# The UI shows an artifact's history by its key, so keys don't change.
TABLE_KEY = "metrics"
PAGE_KEY = "report"
CARD_KEY = "model-card"
Row = dict[str, str]
FIGURES = ("predictions", "loss", "weights", "confusion")


@retry_connection
def publish(root: Path) -> None:
    """Show the table of the metrics, and the figures, of the checkout at `root`.

    What no stage has made yet is left out.
    """
    path = root / "reports" / "metrics.json"
    if not path.exists():
        return
    try:
        metrics = metrics_file.read(path)
    except BadInput as error:
        get_run_logger().warning("Nothing is shown: %s", error)
        return
    create_table_artifact(
        changed(table(metrics), _last()), key=TABLE_KEY, description=headline(metrics)
    )
    folder = root / "reports" / "figures"
    figures = [path for name in FIGURES if (path := folder / f"{name}.svg").exists()]
    create_markdown_artifact(
        page(metrics, figures), key=PAGE_KEY, description=headline(metrics)
    )


@retry_connection
def show_card(root: Path) -> None:
    """Show the champion's model card in the checkout at `root`, if there is one."""
    path = root / "reports" / "model_card.md"
    if path.exists():
        create_markdown_artifact(
            path.read_text(encoding="utf-8"),
            key=CARD_KEY,
            description="The champion: the model that passed the gate last.",
        )


def changed(rows: list[Row], before: list[Row]) -> list[Row]:
    """Return `rows` with the change of each accuracy since the table `before`."""
    accuracies = {row["model"]: float(row["accuracy"]) for row in before}
    return [
        {
            **row,
            "change": _difference(float(row["accuracy"]), accuracies.get(row["model"])),
        }
        for row in rows
    ]


def _difference(now: float, before: float | None) -> str:
    if before is None:
        return "new"
    return f"{now - before:+.4f}" if now != before else "none"


def _last() -> list[Row]:
    """Return the table of the last run that showed one."""
    return _rows(getattr(Artifact.get(TABLE_KEY), "data", None))


def _rows(data: Any) -> list[Row]:
    """Return what `changed` needs of a table; none if another project made it.

    A server is shared, and the key a common word.
    """
    try:
        rows = json.loads(data)
        return [
            {"model": str(row["model"]), "accuracy": f"{float(row['accuracy'])}"}
            for row in rows
        ]
    except (LookupError, RecursionError, TypeError, ValueError):
        return []


def headline(metrics: dict[str, Any]) -> str:
    """Return the result in one sentence."""
    test = metrics["test"]
    return (
        f"Best on validation: {metrics['best']}; its accuracy on the test set is "
        f"{test['accuracy']:.4f} (95 % interval {test['accuracy_low']:.4f} to "
        f"{test['accuracy_high']:.4f})."
    )


def table(metrics: dict[str, Any]) -> list[Row]:
    """Return a row a model, and one for the test set."""
    rows = {
        **{name: splits["valid"] for name, splits in metrics["models"].items()},
        f"{metrics['best']}, on the test set": metrics["test"],
    }
    return [
        {
            "model": name,
            "accuracy": f"{scores['accuracy']:.4f}",
            "95 % interval": (
                f"{scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f}"
            ),
            "log loss": f"{scores['log_loss']:.4f}",
            **{
                key.upper(): f"{scores[key]:.4f}"
                for key in ("rmse", "mae")
                if key in scores
            },
        }
        for name, scores in rows.items()
    ]


def markdown(rows: list[list[str]]) -> str:
    """Return rows, the header first, as a markdown table."""
    header, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([header, "|" + "---|" * len(rows[0]), *body])


def page(metrics: dict[str, Any], figures: list[Path]) -> str:
    """Return the metrics and the figures as one markdown text, images inside."""
    rows = table(metrics)
    lines = [markdown([list(rows[0]), *(list(row.values()) for row in rows)])]
    for figure in figures:
        content = base64.b64encode(figure.read_bytes()).decode()
        lines += ["", f"![{figure.stem}](data:image/svg+xml;base64,{content})"]
    return "\n".join(lines) + "\n"
