import math

import pytest
from dvc.utils.serialize import load_yaml, parse_yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import ROOT

from tasks.runtime import yaml_text

# Scalars that differ between YAML 1.1 and 1.2, or whose type is easily mistaken.
SCALARS = {
    "012": 12,
    "0o12": 10,
    "0x1F": 31,
    "0b11": 3,
    "08": 8,
    "1_000": 1000,
    "-3": -3,
    "1e-05": 1e-05,
    "-2E3": -2000.0,
    ".5": 0.5,
    ".5e+1": 5.0,
    "1.": 1.0,
    ".inf": math.inf,
    "on": "on",
    "yes": "yes",
    "n": "n",
    "True": True,
    "false": False,
    "1:30": "1:30",
    "190:20:30.15": "190:20:30.15",
    "~": None,
    "null": None,
    "": None,
    "'012'": "012",
    "!!str 012": "012",
}


def by_dvc(text: str):
    """Return the value that DVC writes to dvc.lock."""
    return parse_yaml(text, "params.yaml")


@pytest.mark.parametrize("text", SCALARS)
def test_steps_read_the_value_that_dvc_records(text):
    value = yaml_text.parse(f"key: {text}".encode())["key"]
    assert (type(value), value) == (type(SCALARS[text]), SCALARS[text])
    assert repr({"key": value}) == repr(by_dvc(f"key: {text}"))


@pytest.mark.parametrize("name", ["params.yaml", "datasets/*.yaml"])
def test_project_files_are_read_as_by_dvc(name):
    for path in ROOT.glob(name):
        assert repr(yaml_text.parse(path.read_bytes())) == repr(load_yaml(str(path)))


@settings(max_examples=50, deadline=None)
@given(
    st.one_of(
        st.text("0123456789+-_.:eExXoObBaAfF", max_size=8),
        st.text("nNyYoOfFtTrRuUeEsSlLiIaA~.=<!&* ", max_size=6),
        st.text(max_size=10),
    )
)
def test_any_scalar_is_read_as_by_dvc_or_refused(text):
    text = f"key: {text}"
    try:
        value = yaml_text.parse(text.encode())
    except ValueError:
        return
    assert repr(value or {}) == repr(by_dvc(text))


DOCUMENTS = [
    "key: [1, {a: b}]",
    "key: |\n  two\n  lines\n",
    "key: >-\n  a\n  b",
    "key: ! 5",
    "\ufeffkey: 1",
    "%YAML 1.1\n---\nkey: 012\n",
    "key: 1\r\nother: 2\r\n",
    "{=: 1}",
]


@pytest.mark.parametrize("text", DOCUMENTS)
def test_documents_are_read_as_by_dvc(text):
    assert repr(yaml_text.parse(text.encode())) == repr(by_dvc(text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"a: 1\nb: [", "line [23], column"),
        (b"a: 1\n\tb: 2", "line 2, column 1"),
        (b"a: &x 1", "anchors and aliases are not supported.*line 1, column 4"),
        (b"a: 1\nb: 2026-11-24", "unsupported type `timestamp`.*line 2, column 4"),
        (b"--- 1\n--- 2", "found another document, line 2"),
        (b"a: \xff", "can't decode byte 0xff in position 3"),
        (b"a: \0", "position 3"),
    ],
)
def test_errors_have_a_line_and_column(text, reason):
    with pytest.raises(ValueError, match=reason):
        yaml_text.parse(text)


@pytest.mark.parametrize("pure", [False, True])
def test_both_parsers_of_ruamel_have_limits(monkeypatch, pure):
    """The C parser is an optional package."""
    monkeypatch.setattr(
        yaml_text, "YAML", lambda typ, made=yaml_text.YAML: made(typ=typ, pure=pure)
    )
    assert yaml_text.parse(b"a: {b: [012, on]}") == {"a": {"b": [12, "on"]}}
    deep, alias, surrogate = "- " * 9000, "a: &a 1\nb: *a", r'a: "\ud800"'
    for text in ("[" * 9000, deep, alias, surrogate, "%YAML 1.3\n--- 1"):
        with pytest.raises(ValueError, match=r"."):
            yaml_text.parse(text.encode())
