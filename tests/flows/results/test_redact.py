"""Credentials are taken out of what is logged, and nothing else is."""

import pytest

from flows.results.redact import masked, secrets

REMOTES = {
    "far": {"url": "s3://bucket/mnist", "region": "us-east-1", "use_ssl": True},
    "near": {
        "url": "ssh://host/mnist",
        "user": "operator",
        "password": "hunter2hunter2",
        "secret_access_key": "hunter2",
        "passphrase": "abc",
    },
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from/the+environment")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def test_settings_that_hold_credentials_are_known_by_their_names():
    assert secrets(*REMOTES.values()) == ["hunter2hunter2", "hunter2"]


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        (
            "ERROR: operator@host: hunter2hunter2 is wrong, hunter2 too",
            "ERROR: operator@host: *** is wrong, *** too",
        ),
        ("the key from/the+environment is not known", "the key *** is not known"),
        ("to http://me:p@ss@host/x, not b@host", "to http://***@host/x, not b@host"),
        (
            "to s3://bucket/a@b in us-east-1: abc",
            "to s3://bucket/a@b in us-east-1: abc",
        ),
    ],
)
def test_a_line_keeps_all_but_the_credentials(said, logged):
    assert masked(said, REMOTES) == logged
