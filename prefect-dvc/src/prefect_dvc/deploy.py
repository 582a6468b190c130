"""Make a Prefect deployment of a project, which a worker runs on a schedule."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError
from prefect.schedules import Cron
from prefect.settings import get_current_settings
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from prefect_dvc.errors import DeploymentError, describe_error
from prefect_dvc.options import RunOptions
from prefect_dvc.runner import FLOW_NAME, run_project
from prefect_dvc.server import answers, connected, local_url


def deploy(
    folder: Path,
    *,
    name: str,
    cron: str | None,
    timezone: str | None,
    pool: str,
    options: RunOptions,
    jobs: int | None,
) -> str:
    """Make or replace the deployment `name` of a project; return what to do next.

    Args:
        folder: of the project, on the machine where the worker will run.
        name: of the deployment.
        cron: when it runs: minute, hour, day, month, weekday; None: on demand only.
        timezone: IANA name of the cron's time zone, such as Europe/London.
        pool: work pool; created, of type `process`, if it does not exist.
        options: of the runs.
        jobs: how many stages run at a time.
    """
    with _server() as url:
        try:
            deployment = run_project.to_deployment(
                name,
                schedule=Cron(cron, timezone=timezone) if cron else None,
                parameters={
                    "folder": str(folder),
                    "targets": list(options.targets) or None,
                    "options": options.enabled(),
                    "jobs": jobs,
                },
                description=f"The DVC project in {folder}, by prefect-dvc.",
                work_pool_name=pool,
                job_variables={"working_dir": str(folder)},
                concurrency_limit=ConcurrencyLimitConfig(limit=1),
                entrypoint_type=EntrypointType.MODULE_PATH,
                enforce_parameter_schema=False,
            )
            with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
            deployment.apply()  # type: ignore[union-attr]  # no coroutine outside an event loop
        except ValueError as error:  # also pydantic's
            reason = str(error)
            if isinstance(error, ValidationError):
                reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise DeploymentError(
                f"The cron {cron!r} with time zone {timezone!r} is invalid: "
                f"{reason.rstrip('.')}."
            ) from error
    when = f"runs at {cron!r} ({timezone or 'UTC'})" if cron else "runs on demand"
    return (
        f"Deployment {FLOW_NAME}/{name} {when}.\n"
        "Start a worker, in an environment with prefect-dvc:\n"
        f"  PREFECT_API_URL={url} prefect worker start --pool {pool}\n"
        "Start a run now:\n"
        f"  PREFECT_API_URL={url} prefect deployment run {FLOW_NAME}/{name}"
    )


@contextmanager
def _server() -> Iterator[str]:
    """Connect to the Prefect server, which must be up; yield its URL."""
    with connected():
        url = get_current_settings().api.url
        if url is None or not answers(url):
            raise DeploymentError(
                f"No Prefect server answers at {url or local_url()}; start one with "
                "`prefect server start`, or set PREFECT_API_URL to another."
            )
        try:
            yield url
        except (PrefectHTTPStatusError, httpx.HTTPError) as error:
            raise DeploymentError(
                f"The Prefect server at {url} refused: {describe_error(error)}"
            ) from error
