"""The dataset card's settings, and how a table that breaks it is reported."""

import pandas as pd
import pytest
import yaml
from conftest import KIND
from pandera.config import config_context
from pandera.errors import SchemaError

from tasks.runtime.params import BadInput, load
from tasks.validation import schemas
from tasks.validation.schemas import Breach, DataLimits


@pytest.fixture
def section(card: dict) -> DataLimits:
    return DataLimits.model_validate(card["validate"])


def shares(*values: float) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(
        [("test", label) for label in range(len(values))], names=["split", "class"]
    )
    return pd.DataFrame({"class_share": values}, index=index)


def test_a_table_that_holds_has_no_breach(section: DataLimits):
    assert (
        schemas.breaches(schemas.of_classes(section), shares(0.089, 0.1, 0.114)) == []
    )


def test_a_breach_says_what_should_hold_and_where_which_value_does_not(
    section: DataLimits,
):
    assert schemas.breaches(schemas.of_classes(section), shares(0.1, 0.5, 0.088)) == [
        Breach(
            check="class_share",
            rule="a class's share of its split is 0.089 to 0.114",
            count=2,
            examples=[
                {"split": "test", "class": 1, "value": 0.5},
                {"split": "test", "class": 2, "value": 0.088},
            ],
        )
    ]


def test_a_breach_counts_all_failures_but_lists_only_the_first(section: DataLimits):
    (breach,) = schemas.breaches(schemas.of_classes(section), shares(*[0.5] * 1000))
    assert breach.count == 1000
    assert [example["class"] for example in breach.examples] == list(range(20))


def test_the_data_are_checked_even_where_pandera_is_turned_off(section: DataLimits):
    with config_context(validation_enabled=False):
        assert schemas.breaches(schemas.of_classes(section), shares(0.5))


def test_a_table_without_its_column_is_a_fault_of_the_project_not_of_the_data(
    section: DataLimits,
):
    with pytest.raises(SchemaError, match="'class_share' not in dataframe"):
        schemas.breaches(schemas.of_classes(section), shares(0.1)[[]])


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("counts", {"train": 60000}, r"`validate.counts.test` is missing"),
        ("class_share", [0.1, 1.1], r"`validate.class_share.1` is 1.1, but input"),
        ("mean_ink", [130, 4], r"`validate.mean_ink` is \[130, 4\], but the smaller"),
        ("lit_share", [0.6, 0.02], r"but the smaller limit comes first"),
        ("brightest", 256, r"`validate.brightest` is 256, but input should be less"),
        ("darkest", 0, r"`validate.darkest` is not a known key"),
    ],
)
def test_a_data_sheet_that_makes_no_sense_is_refused(tmp_path, card, key, value, fault):
    path = tmp_path / "mnist.yaml"
    path.write_text(yaml.safe_dump({"validate": card["validate"] | {key: value}}))
    with pytest.raises(BadInput, match=fault):
        load("validate", DataLimits, path)


def test_a_brightest_pixel_above_what_is_possible_is_one_sentence(section: DataLimits):
    dark = KIND.form.model_copy(update={"brightest": 16})
    with pytest.raises(BadInput, match="a pixel of 254 or more .*, but 16 is the most"):
        schemas.of_images(section, KIND.model_copy(update={"form": dark}))
