"""The model card has the content of the champion's record."""

import re

from tasks.registry.champions import model_card


def test_the_card_has_the_figures_of_the_record(record):
    text = model_card(record)
    assert text.startswith("# Model card: scratch_adam\n")
    assert "| champion since | 2026-11-23T02:00:00+00:00 |" in text
    assert "| code | git revision `0123456789ab` |" in text
    assert "| data/raw | DVC's MD5 `d0193be1.dir` |" in text
    assert "| learning_rate | 0.001 |" in text
    assert "| validation | 10,000 | 0.9190 | 0.9135 to 0.9242 | 0.2853 | 0.0310 |" in (
        text
    )
    assert "| test | 10,000 | 0.9160 | 0.9104 to 0.9213 | 0.2900 | 0.0300 |" in text
    assert "about 84 of 1,000 such images" in text
    assert "It is weakest on class 5, with a recall of 85.0 %." in text
    assert "40 are classified correctly by this model only, and 20 by" in text
    assert "$ git checkout 0123456789ab" in text


def test_a_first_champion_without_git_has_a_card(record):
    first = record.model_copy(
        update={"replaces": None, "compared": None, "revision": None}
    )
    text = model_card(first)
    assert "| replaced | none: it is the first champion |" in text
    assert "| code | unknown git revision |" in text
    assert "McNemar" not in text
    assert "git checkout" not in text


def test_the_card_mentions_uncommitted_changes(record):
    dirty = record.model_copy(update={"revision": "0123456789ab-dirty"})
    text = model_card(dirty)
    assert "$ git checkout 0123456789ab\n" in text
    assert "uncommitted changes" in text


def test_the_card_is_well_formed_markdown(record):
    text = model_card(record)
    assert "\n\n\n" not in text
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table
