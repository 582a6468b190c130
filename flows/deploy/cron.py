"""When runs start: `schedule` in params.yaml, and the runs the server plans for it."""

import re
from datetime import UTC, datetime
from typing import LiteralString
from zoneinfo import ZoneInfo

from prefect._vendor.croniter.croniter import croniter
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from pydantic import ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from flows.deploy.daemons import Unready, poll
from tasks.runtime.params import Settings

# The server looks for new deployments every five seconds.
SCHEDULER_SECONDS = 60
RULES: dict[str, LiteralString] = {
    "cron": "cron has five fields, minute, hour, day, month and weekday, such as "
    "'0 3 * * *'",
    "timezone": "a time zone has an IANA name, such as 'Europe/London'",
    "alarms": "a block is named TYPE/NAME, such as 'slack-webhook/ops'",
}


class Schedule(Settings):
    """`schedule` in params.yaml.

    Attributes:
        cron: when the deployment `nightly` runs.
        timezone: the time zone of `cron`, by its IANA name.
        alarms: the saved Prefect block, TYPE/NAME, that is notified of failed, refused
            and late runs; None: no notifications.
    """

    cron: str
    timezone: str
    alarms: str | None

    @field_validator("cron", "timezone", "alarms")
    @classmethod
    def _is_valid(cls, value: str | None, info: ValidationInfo) -> str | None:
        field = str(info.field_name)
        if not _follows_rule(field, value):
            raise PydanticCustomError("schedule", RULES[field])
        return value


def _follows_rule(field: str, value: str | None) -> bool:
    if field == "alarms":
        return value is None or bool(re.fullmatch("[^/]+/[^/]+", value))
    try:
        CronSchedule.model_validate({"cron": "0 0 * * *", field: value})
    except ValueError:
        return False
    return True


def next_run(
    client: SyncPrefectClient, nightly: DeploymentResponse, schedule: Schedule
) -> datetime:
    """Return when the server has planned the next run of `schedule`."""

    def future_run() -> datetime | None:
        planned = planned_runs(client, nightly, schedule)
        return min((run for run in planned if run > datetime.now(UTC)), default=None)

    if start := poll(future_run, SCHEDULER_SECONDS):
        return start
    raise Unready(
        f"The server planned no run in {SCHEDULER_SECONDS} s, and its log says why: "
        ".schedule/server.log if `make schedule` started it."
    )


def planned_runs(
    client: SyncPrefectClient, nightly: DeploymentResponse, schedule: Schedule
) -> list[datetime]:
    """Return when the planned runs start; delete those that don't match `schedule`.

    While a deployment is updated, the server may still plan runs by its old schedule.
    """
    chosen = {
        "deployment_id": {"any_": [nightly.id]},
        "state": {"name": {"any_": ["Scheduled"]}},
    }
    planned = []
    for run in client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate(chosen)
    ):
        if not run.auto_scheduled or run.next_scheduled_start_time is None:
            continue
        # Prefect returns Pendulum times until Python 3.12; croniter calls methods of
        # theirs that are deprecated since Prefect 3.9.
        start = datetime.fromtimestamp(
            run.next_scheduled_start_time.timestamp(), ZoneInfo(schedule.timezone)
        )
        if croniter.match(schedule.cron, start):
            planned.append(start)
        else:
            client.delete_flow_run(run.id)
    return planned
