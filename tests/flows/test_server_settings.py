"""The settings of Prefect in pyproject.toml, on a real server."""

import pytest
import requests


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("http://localhost:4200", True), ("https://evil.example", False), ("null", False)],
)
def test_server_refuses_requests_from_pages_of_other_sites(
    prefect_server, origin, allowed
):
    asked = requests.options(
        f"{prefect_server['PREFECT_API_URL']}/deployments/",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
        timeout=10,
    )
    assert asked.ok is allowed
    assert (asked.headers.get("Access-Control-Allow-Origin") == origin) is allowed
