"""`[tool.prefect-dvc]` names the modules to preload."""

import pytest

from prefect_dvc.errors import ProjectError
from prefect_dvc.forkserver import preloaded_modules


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
