"""The API by TLS of its own: requests, events and a WebSocket."""

import json
import ssl
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from barwright.errors import BarwrightError
from barwright.links import tls
from tests.api.conftest import serving
from tests.links.certificates import Authority
from tests.services import Server


def test_the_api_by_tls(
    database: str, valkey: Server, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = authority.issue("api")
    files = {"BARWRIGHT_TLS_CERTIFICATE": str(certificate), "BARWRIGHT_TLS_KEY": str(key)}
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    with serving(database, valkey.url, tmp_path / "serve.log", trusting, **files) as api:
        assert api.client.base_url.scheme == "https"
        assert api.json("/health/ready")["status"] == "ready"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(api.client.base_url.join("/health/live"))
        url = str(api.client.base_url.copy_with(scheme="wss", path="/v1/stream"))
        with connect(url, ssl=trusting) as socket:
            socket.send(json.dumps({"subscribe": {"symbol": "NONE", "interval": "1m"}}))
            assert json.loads(socket.recv(5))["type"] == "error"
    assert "https://127.0.0.1" in (tmp_path / "serve.log").read_text()


def test_a_key_that_does_not_fit_is_told(authority: Authority) -> None:
    (first, _), (_, other) = authority.issue("one"), authority.issue("two")
    with pytest.raises(BarwrightError, match=r"BARWRIGHT_TLS_CERTIFICATE=.* not usable"):
        tls.demand_usable("BARWRIGHT_TLS", str(first), str(other))
    with pytest.raises(BarwrightError, match="BARWRIGHT_TLS_KEY=/nowhere cannot be read"):
        tls.demand_usable("BARWRIGHT_TLS", str(first), "/nowhere")
