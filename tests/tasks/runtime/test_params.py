import re
from pathlib import Path
from typing import Annotated

import pytest
import yaml
from box import in_a_box
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, PositiveInt
from samples import ROOT

from flows.deploy.cron import Schedule
from tasks.baseline import Baseline
from tasks.modeling.calibration import ErrorLimit
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


def test_load_returns_validated_settings(tmp_path):
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
        (
            "example: {size: 3, size: 4}",
            'duplicate key "size" with value "4" (original value: "3"), line 1, col',
        ),
        ("example: {size: 3}\nexample: {size: 4}", 'duplicate key "example"'),
        ("example: {? [a] : 1}", "`example.('a',)` is ('a',), but keys should"),
        ("example: {? {a: 1} : 1}", "found unhashable key, line 1"),
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
def test_errors_are_one_sentence_with_file_and_key(tmp_path, text, sentence):
    path = written(tmp_path, text)
    with pytest.raises(BadInput, match=re.escape(sentence)) as caught:
        load("example", Example, path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "add it."))


def test_an_error_names_all_invalid_keys(tmp_path):
    path = written(tmp_path, "example: {names: 3, extra: 1}")
    with pytest.raises(BadInput, match="names") as caught:
        load("example", Example, path)
    for key in ("size", "names", "extra"):
        assert f"`example.{key}`" in str(caught.value)


def test_an_error_names_ten_invalid_keys_and_counts_the_rest(tmp_path):
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
def test_an_error_shortens_long_values(tmp_path, value):
    path = written(tmp_path, yaml.safe_dump({"example": {"size": value}}))
    with pytest.raises(BadInput, match=r"`example.size` is .*\.\.\..*, but") as caught:
        load("example", Example, path)
    assert len(str(caught.value)) < 400


def test_a_large_file_is_refused(tmp_path):
    path = written(tmp_path, "example: {size: 3} #" + "x" * 100_000)
    with pytest.raises(BadInput, match="has more than 100,000 bytes"):
        load("example", Example, path)


# Without one of the limits, each would take hours or all memory.
BOMBS = {
    "laughs": "a: &a [x, x]\n"
    + "".join(f"a{n}: &a{n} [*a{n - 1 or ''}, *a{n - 1 or ''}]\n" for n in range(1, 40))
    + "example: *a39",
    "quadratic": "a: &a {x: y}\nexample: [" + "*a, " * 20_000 + "]",
    "nested": "example: " + "{a: " * 20_000,
    "base 60": "example: {size: 1" + ":1" * 49_000 + "}",
    "unknown keys": "example: {" + ", ".join(f"k{n}: 1" for n in range(9000)) + "}",
    "a long text": "example: {size: " + "x" * 99_000 + "}",
    "documents": "---\n" * 24_000,
    "quotes": 'example: "' + "\n" * 99_000,
}


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(name, marks=[] if name == "laughs" else [pytest.mark.slow])
        for name in BOMBS
    ],
)
def test_malicious_files_cost_little_time_and_memory(tmp_path, bomb):
    path = written(tmp_path, BOMBS[bomb])
    sentence = in_a_box(
        "from tasks.runtime.params import Settings, load\n"
        "class Example(Settings):\n    size: int\n"
        "load('example', Example, path)",
        path,
    )
    assert sentence.startswith(str(path))
    assert len(sentence) < 2100


@settings(max_examples=30, deadline=None)
@given(st.text())
def test_messages_are_one_printable_line(text):
    sentence = str(BadInput(text))
    assert sentence.isprintable()
    assert sentence == str(BadInput(sentence)), "redacting twice changes nothing"


def test_long_messages_are_shortened_in_the_middle():
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
def test_messages_hide_secrets_in_urls(text, shown):
    assert str(BadInput(text)) == shown


@pytest.mark.parametrize("url", ["https://me:two words@host", "https://host?a b=key"])
def test_faults_hide_secrets_in_urls_with_spaces(tmp_path, url):
    path = written(tmp_path, f"example: {{size: '{url}'}}")
    with pytest.raises(BadInput, match=r"`example.size` is 'https://\*\*\*', but"):
        load("example", Example, path)


def test_a_missing_file_error_says_where_to_run(tmp_path):
    with pytest.raises(
        BadInput, match="is missing; run this from the project's folder"
    ):
        load("example", Example, tmp_path / "params.yaml")


@settings(max_examples=20, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda some: st.lists(some) | st.dictionaries(st.text(), some),
        max_leaves=20,
    )
)
def test_any_yaml_value_is_refused_without_a_crash(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(yaml.safe_dump({"train": tree}))
    with pytest.raises(BadInput):
        load("train", Train, path)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_without_a_crash(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        load("example", Example, path)


@pytest.mark.parametrize(
    ("section", "section_settings"),
    [
        ("baseline", Baseline),
        ("train", Train),
        ("evaluate", ErrorLimit),
        ("promote", Thresholds),
        ("schedule", Schedule),
    ],
)
def test_real_sections_survive_a_round_trip(tmp_path, section, section_settings):
    real = load(section, section_settings, ROOT / "params.yaml")
    text = yaml.safe_dump({section: real.model_dump(mode="json")})
    assert load(section, section_settings, written(tmp_path, text)) == real
