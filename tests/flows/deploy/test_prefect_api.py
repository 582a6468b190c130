"""The Prefect server of this project refuses what a web page sends it."""

import urllib.error
import urllib.request

import pytest


def test_a_web_page_cannot_create_a_flow_run(prefect_server):
    # A page may send this "simple request" to any host, without asking the browser.
    url = f"{prefect_server['PREFECT_API_URL']}/flows/"
    request = urllib.request.Request(url, data=b'{"name": "evil"}', method="POST")
    request.add_header("Content-Type", "text/plain")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 403
    assert b"CSRF" in refused.value.read()
