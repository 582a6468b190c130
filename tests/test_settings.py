import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from pydantic import PositiveInt

from flows.clock import Schedule
from tasks.baseline import Baseline
from tasks.download import Download
from tasks.normalize import Normalize
from tasks.settings import BadInput, Settings, load
from tasks.train import Train
from tasks.validate import Validate


class Example(Settings):
    size: PositiveInt
    names: tuple[str, ...] = ()


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


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(
        BadInput, match="is missing; run this from the project's folder"
    ):
        load("example", Example, tmp_path / "params.yaml")


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        load("example", Example, path)


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        ("download", Download),
        ("validate", Validate),
        ("normalize", Normalize),
        ("baseline", Baseline),
        ("train", Train),
        ("schedule", Schedule),
    ],
)
def test_the_real_sections_survive_yaml(tmp_path, section, settings):
    real = load(section, settings, ROOT / "params.yaml")
    text = yaml.safe_dump({section: real.model_dump(mode="json")})
    assert load(section, settings, written(tmp_path, text)) == real
