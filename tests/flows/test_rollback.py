"""Which champion a rollback restores; test_pipeline.py restores them."""

import pytest

from flows.rollback import _chosen
from tasks.registry.champions import Event
from tasks.runtime.params import BadInput


@pytest.fixture
def history(record):
    """Three champions, one after the other: `aaaa...`, `bbbb...`, `abab...`."""
    md5s = ["a" * 32, "b" * 32, "ab" * 16]
    records = [
        record.model_copy(update={"md5": md5, "replaces": before})
        for md5, before in zip(md5s, [None, *md5s], strict=False)
    ]
    return [
        Event(event="promoted", time="now", instead_of=record.replaces, champion=record)
        for record in records
    ]


def test_default_is_the_champion_before_the_present_one(history):
    now, chosen = _chosen(history, None)
    assert (now.md5[:3], chosen.md5[:3]) == ("aba", "bbb")


def test_second_rollback_goes_one_champion_further_back(history):
    back = Event(
        event="put back",
        time="now",
        instead_of="ab" * 16,
        champion=history[1].champion,
    )
    assert _chosen([*history, back], None)[1].md5 == "a" * 32


def test_first_digits_of_an_md5_choose_any_champion(history):
    assert _chosen(history, "aa")[1].md5 == "a" * 32
    assert _chosen(history, "ab")[1].md5 == "ab" * 16


@pytest.mark.parametrize(
    ("to", "fault"),
    [
        ("a", "2 champions in models/champions.jsonl"),
        ("c", "0 champions in models/champions.jsonl"),
    ],
)
def test_digits_that_match_none_or_several_are_refused(history, to, fault):
    with pytest.raises(BadInput, match=fault):
        _chosen(history, to)


def test_rollback_without_an_earlier_champion_is_refused(history):
    with pytest.raises(BadInput, match="is the first champion"):
        _chosen(history[:1], None)
    with pytest.raises(BadInput, match="There is no champion yet"):
        _chosen([], None)
