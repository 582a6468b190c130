"""Alarms: a Prefect automation that tells a notification block of runs gone wrong.

The block is the operator's own, saved in Prefect, which alone holds its secrets; here
it is only named. No block named, no automation, nothing sent.
"""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from flows.deploy.daemons import Unready

NAME = "mnist-sgd alarms"
FLOWS = ["mnist-sgd", "predict", "rollback"]
# The names of states, not their types: `Refused` is of the type Completed.
STATES = ["Failed", "Crashed", "TimedOut", "Refused", "Late"]

SUBJECT = """\
{%- set state = event.resource['prefect.state-name'] -%}
{{ flow.name }}: run {{ flow_run.name }} \
{{ 'has not started' if state == 'Late' else 'ended as ' ~ state }}"""
# What a state means, for someone who was woken up. A state's message follows.
BODY = """\
{%- set state = event.resource['prefect.state-name'] -%}
Run {{ flow_run.name }} of {{ flow.name }}
{%- if deployment %} (deployment {{ deployment.name }}){% endif %}
{%- if state == 'Late' %} should have started at \
{{ flow_run.expected_start_time.strftime('%Y-%m-%d %H:%M UTC') }} and has not: \
either other runs are under way, or no worker is running; `make schedule` starts one.
{%- elif state == 'Refused' %} was refused: the new model did not pass the gate, \
and the champion stays in use.
{%- elif state == 'Crashed' %} crashed: its process ended before the run did.
{%- elif state == 'TimedOut' %} took longer than it may, and was stopped.
{%- else %} failed.
{%- endif %}
{%- if event.resource['prefect.state-message'] %}
It says: {{ event.resource['prefect.state-message'] }}
{%- endif %}
Its page: {{ flow_run | ui_url or 'PAGES' ~ flow_run.id }}
"""


def block(client: SyncPrefectClient, name: str | None) -> BlockDocument | None:
    """Return the saved block that `name`, TYPE/NAME, stands for.

    Raises:
        Unready: there is no such block, or it can't notify anybody.
    """
    if name is None:
        return None
    kind, _, saved = name.partition("/")
    try:
        found = client.read_block_document_by_name(saved, kind, include_secrets=False)
    except ObjectNotFound:
        page = f"{get_current_settings().ui_url}/blocks/catalog"
        raise Unready(
            f"Prefect has no block {name!r}, which params.yaml names in "
            f"`schedule.alarms`; create it at {page}, or write null there for none."
        ) from None
    schema = found.block_schema
    if schema is None or "notify" not in schema.capabilities:
        raise Unready(
            f"The block {name!r}, which params.yaml names in `schedule.alarms`, can't "
            "notify anybody; name one such as slack-webhook, custom-webhook or "
            "sendgrid-email."
        )
    return found


def put(client: SyncPrefectClient, block: BlockDocument | None) -> None:
    """Send alarms to `block` from now on, and nowhere else; nowhere at all if None."""
    found = client.read_automations_by_name(NAME)
    keep = found[:1] if block else []
    for other in found[len(keep) :]:
        client.delete_automation(other.id)
    if block:
        wanted = _automation(block)
        if keep:
            client.update_automation(keep[0].id, wanted)
        else:
            client.create_automation(wanted)


def _automation(block: BlockDocument) -> AutomationCore:
    # A server knows the address of its own UI only where PREFECT_UI_URL says it.
    pages = f"{get_current_settings().ui_url}/runs/flow-run/"
    of_our_flows: dict[str, str | list[str]] = {
        "prefect.resource.role": "flow",
        "prefect.resource.name": list(FLOWS),
    }
    return AutomationCore(
        name=NAME,
        description="Says when a run went wrong; made and removed by `make schedule`.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in STATES},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(of_our_flows),
            # Each event of each run by itself.
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            SendNotification(
                block_document_id=block.id,
                subject=SUBJECT,
                body=BODY.replace("PAGES", pages),
            )
        ],
    )
