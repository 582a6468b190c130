"""Alarms: a Prefect automation that sends a notification of each run that went wrong.

The notification block is the operator's, saved in Prefect, which alone holds its
secrets; here it is only named. Without a name nothing is sent.
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
# The names of states, not their types: `Refused` has the type Completed.
STATES = ["Failed", "Crashed", "TimedOut", "Refused", "Late"]

SUBJECT = """\
{%- set state = event.resource['prefect.state-name'] -%}
{{ flow.name }}: run {{ flow_run.name }} \
{{ 'has not started' if state == 'Late' else 'ended as ' ~ state }}"""
# Explains the state, then quotes its message.
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
{%- elif state == 'TimedOut' %} exceeded its time limit and was stopped.
{%- else %} failed.
{%- endif %}
{%- if event.resource['prefect.state-message'] %}
Message: {{ event.resource['prefect.state-message'] }}
{%- endif %}
Page: {{ flow_run | ui_url or 'PAGES' ~ flow_run.id }}
"""


def notification_block(
    client: SyncPrefectClient, name: str | None
) -> BlockDocument | None:
    """Return the saved block TYPE/NAME, if it exists and can send notifications."""
    if name is None:
        return None
    block_type, _, saved = name.partition("/")
    try:
        block = client.read_block_document_by_name(
            saved, block_type, include_secrets=False
        )
    except ObjectNotFound:
        page = f"{get_current_settings().ui_url}/blocks/catalog"
        raise Unready(
            f"Prefect has no block {name!r}, the value of `schedule.alarms` in "
            f"params.yaml; create it at {page}, or write null for none."
        ) from None
    schema = block.block_schema
    if schema is None or "notify" not in schema.capabilities:
        raise Unready(
            f"The block {name!r}, the value of `schedule.alarms` in params.yaml, can't "
            "send notifications; name one that can, such as slack-webhook, "
            "custom-webhook or sendgrid-email."
        )
    return block


def send_to(client: SyncPrefectClient, block: BlockDocument | None) -> None:
    """Send alarms to `block` from now on, and nowhere else; stop sending if None."""
    found = client.read_automations_by_name(NAME)
    if block and found:
        client.update_automation(found[0].id, _automation(block))
    elif block:
        client.create_automation(_automation(block))
    else:
        for automation in found:
            client.delete_automation(automation.id)


def _automation(block: BlockDocument) -> AutomationCore:
    # A server knows the address of its own UI only from PREFECT_UI_URL.
    pages = f"{get_current_settings().ui_url}/runs/flow-run/"
    our_flows: dict[str, str | list[str]] = {
        "prefect.resource.role": "flow",
        "prefect.resource.name": list(FLOWS),
    }
    return AutomationCore(
        name=NAME,
        description="Reports runs that went wrong; `make schedule` manages it.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in STATES},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(our_flows),
            # One notification for each event of each run.
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
