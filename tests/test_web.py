"""No page of another site reaches the pages of this machine."""

import socket

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from experiments.web import OnlyLocal, address, listen


async def page(request):
    return PlainTextResponse("secret", headers={"cache-control": "max-age=60"})


async def greet(websocket):
    await websocket.accept()
    await websocket.send_text("secret")
    await websocket.close()


@pytest.fixture(scope="module")
def client():
    app = Starlette(routes=[Route("/", page, methods=["GET", "POST"]), WebSocketRoute("/live", greet)])
    return TestClient(OnlyLocal(app), base_url="http://localhost:8000")


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "LOCALHOST:9", "[::1]:8000"])
def test_this_machine_gets_an_answer_with_the_safety_headers(client, host):
    answer = client.get("/", headers={"host": host})
    assert (answer.status_code, answer.text) == (200, "secret")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers.get_list("cache-control") == ["max-age=60"]  # what a page says itself stands


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", "[::1", ""])
def test_a_name_made_to_point_here_is_refused(client, host):
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 403 and "secret" not in answer.text


def test_only_our_own_page_may_write(client):
    assert client.post("/").status_code == 200  # curl
    assert client.post("/", headers={"origin": "http://localhost:8000"}).status_code == 200
    for origin in ("http://evil.example", "http://localhost:8001", "https://localhost:8000", "null"):
        assert client.post("/", headers={"origin": origin}).status_code == 403


def test_only_our_own_page_may_open_a_websocket(client):
    here = {"host": "localhost:8000"}
    with client.websocket_connect("/live", headers=here | {"origin": "http://localhost:8000"}) as live:
        assert live.receive_text() == "secret"
    for more in ({"origin": "http://evil.example"}, {"origin": "http://localhost:8001"}, {}):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/live", headers=here | more):
            pass
    with pytest.raises(WebSocketDisconnect):
        evil = {"host": "evil.example", "origin": "http://evil.example"}
        with client.websocket_connect("/live", headers=evil):
            pass


def test_a_port_in_use_is_passed_over_and_said():
    said = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with listen(port, said.append) as listener:
            ours = listener.getsockname()
            assert ours[0] == "127.0.0.1" and ours[1] > port
            assert address(listener) == f"http://localhost:{ours[1]}"
    assert said == [f"port {port} is in use; taking {ours[1]}"]
    with pytest.raises(ValueError, match="--port 0"):
        listen(0, said.append)
