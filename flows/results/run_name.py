"""The name of a run in the Prefect UI, and its tags."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.runtime import deployment, flow_run

from prefect_dvc import retry_connection
from tasks.evaluation import metrics_file
from tasks.registry import provenance

DIGITS = 7


def initial() -> str:
    """Return the name of a run when it starts: its deployment, and its day."""
    start: datetime = flow_run.scheduled_start_time or datetime.now(UTC)
    return f"{deployment.name or 'by hand'} {start.astimezone().date()}"


@retry_connection
def finish(root: Path) -> None:
    """Add the best model's accuracy in validation to the running flow's name; tag it.

    If the tags were set earlier, each task would inherit them, and ask the server for a
    concurrency slot for each.
    """
    metrics = metrics_file.read(root / "reports/metrics.json")
    accuracy = metrics["models"][metrics["best"]]["valid"]["accuracy"]
    with get_client(sync_client=True) as client:
        client.update_flow_run(
            flow_run.id,
            name=f"{initial()} {accuracy:.4f}".replace(" 0.", " ."),
            tags={*flow_run.tags, *tags(metrics)},
        )


def tags(metrics: dict[str, Any]) -> list[str]:
    """Return the tags of a run: its data, its best model, its code."""
    code = provenance.revision()
    return [
        f"best:{metrics['best']}",
        f"data:{provenance.data()['data/raw'][:DIGITS]}",
        *([f"git:{code}"] if code else []),
    ]
