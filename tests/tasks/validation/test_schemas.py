"""The limits in the dataset card, and the failures of a table that breaks them."""

import pandas as pd
import pytest
import yaml
from conftest import KIND
from pandera.config import config_context
from pandera.errors import SchemaError

from tasks.runtime.params import BadInput, load
from tasks.validation import schemas
from tasks.validation.schemas import DataLimits


@pytest.fixture
def section(card: dict) -> DataLimits:
    return DataLimits.model_validate(card["validate"])


def shares(*values: float) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(
        [("test", label) for label in range(len(values))], names=["split", "class"]
    )
    return pd.DataFrame({"class_share": values}, index=index)


def test_valid_table_has_no_failures(section: DataLimits):
    schema = schemas.of_classes(section)
    assert schemas.failures(schema, shares(0.089, 0.1, 0.114)) == {}


def test_failure_has_check_rule_location_and_value(section: DataLimits):
    schema = schemas.of_classes(section)
    rule = "a class's share of its split is 0.089 to 0.114"
    assert schemas.failures(schema, shares(0.1, 0.5, 0.088)) == {
        "class_share": [
            {
                "check": "class_share",
                "rule": rule,
                "split": "test",
                "class": label,
                "value": value,
            }
            for label, value in ((1, 0.5), (2, 0.088))
        ]
    }


def test_data_is_checked_even_if_pandera_is_disabled(section: DataLimits):
    with config_context(validation_enabled=False):
        assert schemas.failures(schemas.of_classes(section), shares(0.5))


def test_table_without_a_column_of_the_schema_does_not_pass(section: DataLimits):
    with pytest.raises(SchemaError, match="class_share"):
        schemas.failures(schemas.of_classes(section), shares(0.1)[[]])


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("counts", {"train": 60000}, r"`validate.counts.test` is missing"),
        ("class_share", [0.1, 1.1], r"`validate.class_share.1` is 1.1, but input"),
        (
            "mean_pixel",
            [130, 4],
            r"`validate.mean_pixel` is \[130, 4\], but the smaller",
        ),
        ("foreground_share", [0.6, 0.02], r"but the smaller limit comes first"),
        ("brightest", 256, r"`validate.brightest` is 256, but input should be less"),
        ("mean_ink", [6, 102], r"`validate.mean_ink` is not a known key"),
    ],
)
def test_invalid_limits_in_the_dataset_card_are_refused(
    tmp_path, card, key, value, fault
):
    path = tmp_path / "mnist.yaml"
    path.write_text(yaml.safe_dump({"validate": card["validate"] | {key: value}}))
    with pytest.raises(BadInput, match=fault):
        load("validate", DataLimits, path)


def test_impossible_limit_on_the_brightest_pixel_is_refused(section: DataLimits):
    dark = KIND.form.model_copy(update={"brightest": 16})
    with pytest.raises(BadInput, match="`validate.brightest` is 254, but .* 16"):
        schemas.of_images(section, KIND.model_copy(update={"form": dark}))
