"""When runs start: `schedule` in params.yaml, and what the server plans of it."""

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from prefect._vendor.croniter.croniter import croniter
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from pydantic import field_validator
from pydantic_core import PydanticCustomError

from flows.deploy.daemons import POLL_SECONDS, Unready
from tasks.runtime.params import Settings

# The server looks for new deployments every five seconds.
SCHEDULER_SECONDS = 60


class Schedule(Settings):
    """`schedule` in params.yaml.

    Attributes:
        cron: when the deployment `nightly` runs.
        timezone: whose clock that is, by its IANA name.
        alarms: the saved Prefect block that is told of a run that did not go well, as
            TYPE/NAME; none means that nobody is told.
    """

    cron: str
    timezone: str
    alarms: str | None

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        try:
            return CronSchedule(cron=cron).cron
        except ValueError:
            raise PydanticCustomError(
                "cron",
                "cron has five fields, minute, hour, day, month and weekday, such as "
                "'0 3 * * *'",
            ) from None

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, timezone: str) -> str:
        try:
            CronSchedule(cron="0 0 * * *", timezone=timezone)
        except ValueError:
            raise PydanticCustomError(
                "timezone", "a time zone has an IANA name, such as 'Europe/London'"
            ) from None
        return timezone

    @field_validator("alarms")
    @classmethod
    def _is_block(cls, alarms: str | None) -> str | None:
        if alarms is not None and len([*filter(None, alarms.split("/"))]) != 2:
            raise PydanticCustomError(
                "block", "a block is named TYPE/NAME, such as 'slack-webhook/ops'"
            )
        return alarms


def next_run(
    client: SyncPrefectClient, nightly: DeploymentResponse, schedule: Schedule
) -> datetime:
    """Return when the server has planned the next run of the schedule.

    Raises:
        Unready: it planned none in a while.
    """
    deadline = time.monotonic() + SCHEDULER_SECONDS
    while True:
        forget(client, nightly, schedule)
        now = datetime.now(UTC)
        for run in planned(client, nightly):
            start = run.next_scheduled_start_time
            if start and start > now:
                return _local(start, schedule)
        if time.monotonic() > deadline:
            raise Unready(
                f"The server planned no run in {SCHEDULER_SECONDS} s, and its log says "
                "why: .schedule/server.log if `make schedule` started it."
            )
        time.sleep(POLL_SECONDS)


def planned(client: SyncPrefectClient, nightly: DeploymentResponse) -> list[FlowRun]:
    """Return the runs that the clock has planned and that have not begun, in order."""
    chosen = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[nightly.id]),
        state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Scheduled"])),
    )
    by_time = FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC
    runs = client.read_flow_runs(flow_run_filter=chosen, sort=by_time)
    return [run for run in runs if run.auto_scheduled]


def forget(
    client: SyncPrefectClient, nightly: DeploymentResponse, schedule: Schedule
) -> None:
    """Delete planned runs that are not of `schedule`.

    A server that plans runs while a deployment is changed may go on from what it read
    before, and leave runs of a schedule that is no more.
    """
    for run in planned(client, nightly):
        start = run.next_scheduled_start_time
        assert start
        if not croniter.match(schedule.cron, _local(start, schedule)):
            client.delete_flow_run(run.id)


def _local(start: datetime, schedule: Schedule) -> datetime:
    # Until Python 3.12 Prefect returns Pendulum times, some methods of which, called by
    # croniter, are deprecated since Prefect 3.9.
    return datetime.fromtimestamp(start.timestamp(), ZoneInfo(schedule.timezone))
