"""`[tool.prefect-dvc]` names modules to preload; `start_preloading` starts early."""

import pytest

from prefect_dvc import forkserver
from prefect_dvc.errors import ProjectError
from prefect_dvc.preload import preloaded_modules, start_preloading

# DVC's own, when it looks up the outputs of a stage.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        (None, ()),
        ("[tool.other]\n", ()),
        ("[tool.prefect-dvc]\n", ()),
        ('[tool.prefect-dvc]\npreload = ["json", "os.path"]\n', ("json", "os.path")),
    ],
)
def test_preloaded_modules_come_from_the_nearest_pyproject(tmp_path, text, modules):
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert preloaded_modules(below) == modules


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[tool.prefect-dvc]\npreload = 'json'\n", "a list of module names"),
        ("[tool.prefect-dvc]\npreload = [1]\n", "a list of module names"),
        ("[tool.prefect-dvc]\npreloads = []\n", "takes one key, `preload`"),
        ("[tool.prefect-dvc\n", "is not valid TOML"),
    ],
)
def test_an_invalid_section_is_refused_in_one_sentence(tmp_path, text, fault):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ProjectError, match=fault):
        preloaded_modules(tmp_path)


@pytest.fixture
def preloads(monkeypatch):
    """Return whether `start_preloading` starts the preloading in a folder."""
    started = []
    monkeypatch.setattr(forkserver, "start", started.append)

    def preloads(folder):
        (folder / "pyproject.toml").write_text(
            '[tool.prefect-dvc]\npreload = ["json"]\n'
        )
        started.clear()
        start_preloading(folder)
        return started == [("json",)]

    return preloads


def test_preloading_is_skipped_if_every_output_exists(built, preloads):
    assert not preloads(built.root)
    (built.root / "parts" / "a.txt").unlink()
    assert preloads(built.root)


@pytest.mark.parametrize("text", [None, "", "stages:", "stages: {a: 1}", "[", "- a"])
def test_preloading_is_not_skipped_without_a_usable_dvc_lock(tmp_path, preloads, text):
    if text is not None:
        (tmp_path / "dvc.lock").write_text(text)
    assert preloads(tmp_path)
