"""The fuzz targets on their corpus and on mutations; `make fuzz` runs many more."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent / "fuzz"
CORPUS = sorted((HERE / "corpus").glob("*/*"))


@pytest.fixture(scope="module")
def targets():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        import targets  # noqa: PLC0415  # creates a folder, removed here

        yield targets.TARGETS
    targets.remove_folder()
    del sys.modules["targets"]


def test_every_target_has_a_corpus(targets):
    assert {path.parent.name for path in CORPUS} == targets.keys()


@pytest.mark.parametrize(
    "path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_reader_reads_or_refuses_the_corpus(targets, path):
    targets[path.parent.name](path.read_bytes())


@settings(max_examples=100)
@given(st.data())
def test_reader_reads_or_refuses_mutated_inputs(targets, data):
    path = data.draw(st.sampled_from(CORPUS))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 8))
        content[start : start + length] = data.draw(st.binary(max_size=8))
    targets[path.parent.name](bytes(content))
