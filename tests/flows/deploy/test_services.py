"""The Prefect server of a schedule: who may call it, and what prevents its start."""

import sys
import urllib.error
import urllib.request

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_API_PORT,
    temporary_settings,
)
from test_daemons import WORK, start
from webserver import serving

from flows.deploy import services
from flows.deploy.daemons import Background, Unready
from prefect_dvc import DvcProject


def test_web_page_cannot_create_a_flow_run(prefect_server):
    # Browsers let any page send this "simple request" to any host.
    url = f"{prefect_server['PREFECT_API_URL']}/flows/"
    request = urllib.request.Request(url, data=b'{"name": "evil"}', method="POST")
    request.add_header("Content-Type", "text/plain")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 403
    assert b"CSRF" in refused.value.read()


def test_remote_server_that_does_not_answer_is_one_sentence():
    url = "http://127.0.0.1:9/api"
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(Unready, match=f"The Prefect server at {url} does not answer"),
    ):
        services.start_server(url)


def test_port_of_another_program_is_refused(monkeypatch):
    monkeypatch.setattr(services, "BUSY_SECONDS", 0.1)
    with serving({}) as web:
        port = int(web.url.rpartition(":")[2])
        with (
            temporary_settings({PREFECT_SERVER_API_PORT: port}),
            pytest.raises(Unready, match=f"Port {port} is taken"),
        ):
            services.start_server(f"{web.url}/api")


def test_outdated_worker_is_not_stopped_while_a_run_is_under_way(tmp_path, monkeypatch):
    (tmp_path / ".dvc").mkdir()
    worker = Background(tmp_path, "worker")
    monkeypatch.setattr(services, "ROOT", tmp_path)
    monkeypatch.setattr(services, "WORKER", worker)
    monkeypatch.setattr(services, "SERVER", Background(tmp_path, "server"))
    start(worker, WORK)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with DvcProject(tmp_path).locked(), pytest.raises(Unready, match="under way"):
        services.stop_outdated()
    assert worker.running()
    services.stop_outdated()
    assert not worker.running()
