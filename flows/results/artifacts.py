"""The artifacts of a finished run, which its page in the Prefect UI shows."""

import base64
import json
from pathlib import Path
from typing import Any

from prefect.artifacts import Artifact, create_markdown_artifact, create_table_artifact
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
    """Show the metrics and figures of the checkout at `root` that exist."""
    reports = root / "reports"
    if not (reports / "metrics.json").exists():
        return
    try:
        metrics = metrics_file.read(reports / "metrics.json")
    except BadInput as error:
        get_run_logger().warning("No metrics are shown: %s", error)
        return
    last = getattr(Artifact.get(TABLE_KEY), "data", None)
    rows = with_change(table(metrics), last)
    create_table_artifact(rows, key=TABLE_KEY, description=headline(metrics))
    figures = [reports / "figures" / f"{name}.svg" for name in FIGURES]
    create_markdown_artifact(
        page(metrics, [figure for figure in figures if figure.exists()]),
        key=PAGE_KEY,
        description=headline(metrics),
    )


@retry_connection
def show_card(root: Path) -> None:
    """Show the champion's model card in the checkout at `root`, if there is one."""
    path = root / "reports" / "model_card.md"
    if path.exists():
        create_markdown_artifact(
            path.read_text(encoding="utf-8"),
            key=CARD_KEY,
            description="The champion: the last model that passed the gate.",
        )


def with_change(rows: list[Row], last: Any) -> list[Row]:
    """Return `rows` with the change of each accuracy since the table `last`.

    Args:
        rows: of the metrics' table.
        last: the JSON text of the last table with this key. Servers are shared, so it
            may come from another project; then every row is new.
    """
    try:
        before = {row["model"]: float(row["accuracy"]) for row in json.loads(last)}
    except (LookupError, RecursionError, TypeError, ValueError):
        before = {}
    return [
        {**row, "change": _change(float(row["accuracy"]), before.get(row["model"]))}
        for row in rows
    ]


def _change(now: float, before: float | None) -> str:
    if before is None:
        return "new"
    return f"{now - before:+.4f}" if now != before else "none"


def headline(metrics: dict[str, Any]) -> str:
    """Return the result in one sentence."""
    test = metrics["test"]
    return (
        f"Best on validation: {metrics['best']}; its accuracy on the test set is "
        f"{test['accuracy']:.4f} (95 % interval {_interval(test)})."
    )


def table(metrics: dict[str, Any]) -> list[Row]:
    """Return a row for each model, and one for the test set."""
    rows = {name: splits["valid"] for name, splits in metrics["models"].items()}
    rows[f"{metrics['best']}, on the test set"] = metrics["test"]
    return [
        {
            "model": name,
            "accuracy": f"{scores['accuracy']:.4f}",
            "95 % interval": _interval(scores),
            "log loss": f"{scores['log_loss']:.4f}",
            **{k.upper(): f"{scores[k]:.4f}" for k in ("rmse", "mae") if k in scores},
        }
        for name, scores in rows.items()
    ]


def _interval(scores: dict[str, float]) -> str:
    return f"{scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f}"


def markdown(rows: list[list[str]]) -> str:
    """Return rows, the header first, as a markdown table."""
    header, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([header, "|" + "---|" * len(rows[0]), *body])


def page(metrics: dict[str, Any], figures: list[Path]) -> str:
    """Return the metrics and the figures as one markdown text with embedded images."""
    rows = table(metrics)
    lines = [markdown([list(rows[0]), *(list(row.values()) for row in rows)])]
    for figure in figures:
        content = base64.b64encode(figure.read_bytes()).decode()
        lines += ["", f"![{figure.stem}](data:image/svg+xml;base64,{content})"]
    return "\n".join(lines) + "\n"
