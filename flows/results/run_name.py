"""What a run is called in the Prefect UI: its name, and the tags to find it by."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.runtime import deployment, flow_run

from prefect_dvc import retry_connection
from tasks.evaluation import metrics_file
from tasks.registry import provenance

BY_HAND = "by hand"
DIGEST = 7


def begin() -> str:
    """Return the name of a run that begins: who started it, and for which day."""
    planned: datetime = flow_run.scheduled_start_time or datetime.now(UTC)
    return f"{deployment.name or BY_HAND} {planned.astimezone().date()}"


@retry_connection
def finish(root: Path) -> None:
    """Name the running flow after its result, and tag it with what that came from.

    The name ends in the best model's accuracy in validation. The tags are set now and
    not when the run begins, because each of its tasks would have them too, and ask the
    server for a concurrency slot for each.
    """
    metrics = metrics_file.read(root / "reports/metrics.json")
    accuracy = metrics["models"][metrics["best"]]["valid"]["accuracy"]
    with get_client(sync_client=True) as client:
        client.update_flow_run(
            flow_run.id,
            name=f"{begin()} {accuracy:.4f}".replace(" 0.", " ."),
            tags={*flow_run.tags, *tags(metrics)},
        )


def tags(metrics: dict[str, Any]) -> list[str]:
    """Return the tags of a run: its data, its best model, its code."""
    code = provenance.revision()
    return [
        f"best:{metrics['best']}",
        f"data:{provenance.data()['data/raw'][:DIGEST]}",
        *([f"git:{code}"] if code else []),
    ]
