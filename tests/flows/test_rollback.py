"""Which champion is put back; that it is, is seen in test_pipeline.py."""

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
        Event(event="promoted", time="now", instead_of=one.replaces, champion=one)
        for one in records
    ]


def test_it_is_the_one_that_the_champion_replaced(history):
    now, chosen = _chosen(history, None)
    assert (now.md5[:3], chosen.md5[:3]) == ("aba", "bbb")


def test_once_more_it_is_the_one_before_that(history):
    back = Event(
        event="put back",
        time="now",
        instead_of="ab" * 16,
        champion=history[1].champion,
    )
    assert _chosen([*history, back], None)[1].md5 == "a" * 32


def test_any_champion_can_be_named_by_how_its_md5_begins(history):
    assert _chosen(history, "aa")[1].md5 == "a" * 32
    assert _chosen(history, "ab")[1].md5 == "ab" * 16


@pytest.mark.parametrize(
    ("to", "fault"),
    [
        ("a", "2 champions in models/champions.jsonl have an MD5 that begins with 'a'"),
        ("c", "0 champions in models/champions.jsonl have an MD5 that begins with 'c'"),
    ],
)
def test_a_name_of_none_or_of_several_is_one_sentence(history, to, fault):
    with pytest.raises(BadInput, match=fault):
        _chosen(history, to)


def test_before_the_first_champion_there_was_none(history):
    with pytest.raises(BadInput, match="is the first champion: none was before it"):
        _chosen(history[:1], None)
    with pytest.raises(BadInput, match="There is no champion yet"):
        _chosen([], None)
