"""Calls to a server that is down for a while are retried."""

import httpx
import pytest

from prefect_dvc import server


@pytest.fixture
def slept(monkeypatch):
    """The seconds of each sleep, which takes no time."""
    slept = []
    monkeypatch.setattr(server.time, "sleep", slept.append)
    return slept


def test_a_call_waits_for_a_server_that_comes_back(slept):
    answers = iter([httpx.ConnectError("gone"), httpx.ConnectError("gone"), None])
    given = []

    @server.retry_connection
    def ask(what, *, how):
        given.append((what, how))
        if answer := next(answers):
            raise answer

    ask("name", how="kindly")
    assert given == [("name", "kindly")] * 3
    assert slept == [1, 2]


def test_a_call_fails_if_the_server_is_down_for_a_minute(slept):
    @server.retry_connection
    def ask():
        raise httpx.ConnectError("gone")

    with pytest.raises(httpx.ConnectError):
        ask()
    assert 60 <= sum(slept) < 70


def test_another_error_is_raised_at_once(slept):
    @server.retry_connection
    def ask():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask()
    assert slept == []
