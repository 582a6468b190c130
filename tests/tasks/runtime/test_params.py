import re
from pathlib import Path
from typing import Annotated

import pytest
import yaml
from box import in_a_box
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, PositiveInt

from flows.deploy.cron import Schedule
from tasks.baseline import Baseline
from tasks.evaluate import Evaluate
from tasks.registry.gate import Thresholds
from tasks.runtime.params import BadInput, Settings, load
from tasks.training.settings import Train


class Example(Settings):
    size: PositiveInt
    names: Annotated[tuple[str, ...], Field(strict=False)] = ()
    share: float = 0.5


def written(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text)
    return path


def test_a_section_becomes_its_settings(tmp_path):
    path = written(tmp_path, "example: {size: 3, names: [a]}\nother: {}")
    assert load("example", Example, path) == Example(size=3, names=("a",))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("example: {names: []}", "`example.size` is missing"),
        ("example: {size: 3, sise: 4}", "`example.sise` is not a known key"),
        ("example: {size: 0}", "`example.size` is 0, but input should be greater"),
        ("example: {size: three}", "`example.size` is 'three', but input should be"),
        ("example: {size: 3, names: [1]}", "`example.names.0` is 1, but input should"),
        ("example: 3", "`example` is 3, but input should be a valid dictionary"),
        ("other: {}", "has no section `example`"),
        ("- example", "has no section `example`"),
        ("example: [", "is not valid YAML"),
        ("", "has no section `example`"),
        ("example: {size: true}", "`example.size` is True, but input should be"),
        ("example: {size: '3'}", "`example.size` is '3', but input should be"),
        ("example: {size: 3.0}", "`example.size` is 3.0, but input should be"),
        ("example: {size: 3, names: [true]}", "`example.names.0` is True, but"),
        ("example: {size: 3, share: yes}", "`example.share` is 'yes', but"),
        ("example: {size: 3, share: .nan}", "`example.share` is nan, but input should"),
        ("example: {size: 3, share: -.inf}", "`example.share` is -inf, but input"),
        ("example: {size: 3, share: 1e999}", "`example.share` is inf, but input"),
        ("example: {size: 3, size: 4}", "duplicate key `size`, line 1, column 20."),
        ("example: {size: 3}\nexample: {size: 4}", "duplicate key `example`, line 2"),
        ("example: {? [a] : 1}", "a key must be a single value"),
        ("example: &a [*a]", "anchors and aliases are not supported"),
        ("a: &a {size: 3}\nexample: {<<: *a}", "anchors and aliases are not"),
        ("example: {<<: {size: 3}, size: 4}", "merge keys are not supported"),
        ("example: " + "[" * 999, "nested more than 20 deep"),
        ("- " * 999, "nested more than 20 deep"),
        ("example: {size: 99999999999999999999}", "integer of more than 64 bits"),
        ("example: {size: 0x" + "f" * 9999 + "}", "integer of more than 64 bits"),
        ("example: {size: " + "9" * 9999 + "}", "is not valid YAML: invalid int"),
        ("example: 2026-13-45", "unsupported type `timestamp`; quote it"),
        ("example: !!set {a}", "unsupported type `set`"),
        ("example: !!python/name:os.system", "unsupported type `python/name"),
        ("example: !!bool x", "is not valid YAML: invalid bool, line 1"),
        ("example: !!int ''", "is not valid YAML: invalid int, line 1"),
        ("example: {size: 3, '\\e[2J': 1}", r"`example.\e[2J` is not a known key"),
        ('example: {size: "\\e[2J\\n"}', r"`example.size` is '\x1b[2J\n', but"),
        ('example: {size: "\\ud800"}', "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, text, sentence):
    path = written(tmp_path, text)
    with pytest.raises(BadInput, match=re.escape(sentence)) as caught:
        load("example", Example, path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "add it."))


def test_all_faults_are_named_at_once(tmp_path):
    path = written(tmp_path, "example: {names: 3, extra: 1}")
    with pytest.raises(BadInput, match="names") as caught:
        load("example", Example, path)
    for key in ("size", "names", "extra"):
        assert f"`example.{key}`" in str(caught.value)


def test_of_many_faults_the_first_are_named_and_all_counted(tmp_path):
    path = written(
        tmp_path, yaml.safe_dump({"example": dict.fromkeys(map(str, range(99)))})
    )
    with pytest.raises(
        BadInput, match="`example.16` is not .*; and 90 more.$"
    ) as caught:
        load("example", Example, path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "value", ["x" * 9999, [["x"] * 99 for _ in range(9)], {"x": {"y": "z" * 999}}]
)
def test_of_a_long_value_a_part_is_shown(tmp_path, value):
    path = written(tmp_path, yaml.safe_dump({"example": {"size": value}}))
    with pytest.raises(BadInput, match=r"`example.size` is .*\.\.\..*, but") as caught:
        load("example", Example, path)
    assert len(str(caught.value)) < 400


def test_a_file_is_read_to_a_size(tmp_path):
    path = written(tmp_path, "example: {size: 3} #" + "x" * 100_000)
    with pytest.raises(BadInput, match="has more than 100,000 bytes"):
        load("example", Example, path)


# Each would take hours or all memory, were it not for one of the bounds.
BOMBS = {
    "laughs": "a: &a [x, x]\n"
    + "".join(f"a{n}: &a{n} [*a{n - 1 or ''}, *a{n - 1 or ''}]\n" for n in range(1, 40))
    + "example: *a39",
    "quadratic": "a: &a {" + "x: y, " * 1 + "}\nexample: [" + "*a, " * 20_000 + "]",
    "nested": "example: " + "{a: " * 20_000,
    "base 60": "example: {size: 1" + ":1" * 49_000 + "}",
    "unknown keys": "example: {" + ", ".join(f"k{n}: 1" for n in range(9000)) + "}",
    "a long text": "example: {size: " + "x" * 99_000 + "}",
    "documents": "---\n" * 24_000,
    "quotes": 'example: "' + "\n" * 99_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_costs_little_time_and_memory(tmp_path, bomb):
    path = written(tmp_path, BOMBS[bomb])
    sentence = in_a_box(
        "from tasks.runtime.params import Settings, load\n"
        "class Example(Settings):\n    size: int\n"
        "load('example', Example, path)",
        path,
    )
    assert sentence.startswith(str(path))
    assert len(sentence) < 2100


@given(st.text())
def test_a_sentence_is_one_line_for_everybody(text):
    sentence = str(BadInput(text))
    assert sentence.isprintable()
    assert sentence == str(BadInput(sentence)), "and has nothing left to be hidden"


def test_a_long_sentence_keeps_its_ends():
    sentence = str(BadInput("begin " + "x" * 1_000_000 + " end"))
    assert (sentence[:7], sentence[-5:]) == ("begin x", "x end")
    assert len(sentence) < 2100


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "see https://me:word@host/a?key=token, then",
            "see https://***@host/a?*** then",
        ),
        ("https://token@host", "https://***@host"),
        ("https://me:wo/r?d@host/a", "https://***@host/a"),
        ("https://a@b@host/a", "https://***@***@host/a"),
        ("https://host/https://me:word@other/a", "https://host/https://***@other/a"),
        ("https://host/a and me@host?", "https://host/a and me@host?"),
        ("npm:@scope/name@1.2.6", "npm:@scope/name@1.2.6"),
    ],
)
def test_what_may_be_secret_in_a_url_is_hidden(text, shown):
    assert str(BadInput(text)) == shown


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(
        BadInput, match="is missing; run this from the project's folder"
    ):
        load("example", Example, tmp_path / "params.yaml")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda some: st.lists(some) | st.dictionaries(st.text(), some),
        max_leaves=20,
    )
)
def test_no_tree_crashes_the_reader(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(yaml.safe_dump({"train": tree}))
    with pytest.raises(BadInput):
        load("train", Train, path)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        load("example", Example, path)


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        ("baseline", Baseline),
        ("train", Train),
        ("evaluate", Evaluate),
        ("promote", Thresholds),
        ("schedule", Schedule),
    ],
)
def test_the_real_sections_survive_yaml(tmp_path, section, settings):
    real = load(section, settings, ROOT / "params.yaml")
    text = yaml.safe_dump({section: real.model_dump(mode="json")})
    assert load(section, settings, written(tmp_path, text)) == real
