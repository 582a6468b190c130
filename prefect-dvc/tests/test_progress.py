"""Progress bars go to the UI; other lines, and bars the UI can't show, to the log."""

from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_dvc.commands import Listener


def test_lines_that_are_not_progress_go_to_the_log():
    lines = []
    listener = Listener("train", lambda form, line: lines.append(form % line))
    listener("accuracy 42%")
    listener("done")
    assert lines == ["accuracy 42%", "done"]


def test_progress_goes_to_the_log_if_the_server_is_down():
    lines = []
    listener = Listener("train", lambda form, line: lines.append(form % line))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        listener("train:  42%|####      | 42/100")
    assert lines == ["train:  42%|####      | 42/100"]
