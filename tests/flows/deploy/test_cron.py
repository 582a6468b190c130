"""The section `schedule` of params.yaml."""

import re

import pytest
import yaml
from samples import ROOT

from flows.deploy import deployments
from flows.deploy.cron import Schedule
from tasks.runtime.params import BadInput, load


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("cron", "0 25 * * *", "cron has five fields, minute, hour, day, month and "),
        ("timezone", "Mars/Olympus", "a time zone has an IANA name, such as 'Europe/"),
        ("alarms", "slack", "a block is named TYPE/NAME, such as 'slack-webhook/ops'."),
        ("alarms", "slack/", "a block is named TYPE/NAME"),
    ],
)
def test_invalid_schedule_is_one_sentence(tmp_path, params, key, value, reason):
    params["schedule"][key] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    sentence = f"{path}: `schedule.{key}` is {value!r}, but {reason}"
    with pytest.raises(BadInput, match=f"^{re.escape(sentence)}"):
        load("schedule", Schedule, path)


def test_unquoted_cron_may_start_with_a_star(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("0 3 * * *", "*/2 * * * *"))
    assert load("schedule", Schedule, path).cron == "*/2 * * * *"


def test_prefect_yaml_has_all_deployments():
    named = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert [deployment["name"] for deployment in named] == [*deployments.NAMES]
