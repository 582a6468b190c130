"""The Prefect server: one that is gone for a while, and one that a web page attacks."""

import urllib.error
import urllib.request

import httpx
import pytest

from flows.deploy import prefect_api


@pytest.fixture
def slept(monkeypatch):
    """How long was slept, each time; nobody sleeps."""
    slept = []
    monkeypatch.setattr(prefect_api.time, "sleep", slept.append)
    return slept


def test_a_server_that_comes_back_is_waited_for(slept):
    answers = iter([httpx.ConnectError("gone"), httpx.ConnectError("gone"), None])
    given = []

    @prefect_api.patient
    def ask(what, *, how):
        given.append((what, how))
        if answer := next(answers):
            raise answer

    ask("name", how="kindly")
    assert given == [("name", "kindly")] * 3
    assert slept == [1, 2]


def test_after_a_minute_it_is_an_error(slept):
    @prefect_api.patient
    def ask():
        raise httpx.ConnectError("gone")

    with pytest.raises(httpx.ConnectError):
        ask()
    assert 60 <= sum(slept) < 70


def test_another_error_is_told_at_once(slept):
    @prefect_api.patient
    def ask():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask()
    assert slept == []


def test_a_web_page_cannot_create_a_flow_run(prefect_server):
    # A page may send this "simple request" to any host, without asking the browser.
    url = f"{prefect_server['PREFECT_API_URL']}/flows/"
    request = urllib.request.Request(url, data=b'{"name": "evil"}', method="POST")
    request.add_header("Content-Type", "text/plain")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 403
    assert b"CSRF" in refused.value.read()
