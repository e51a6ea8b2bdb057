"""What every local page of the suite has in common: an address of this machine only, and no door for other sites.

A page on 127.0.0.1 can be reached by any web site that the same browser has open. Host keeps out a
site whose name was made to point here (DNS rebinding), Origin one that writes or opens a WebSocket across, and the
content security policy keeps whatever is shown from running or loading anything.
"""

import contextlib
import errno
import os
import socket
import sys
import webbrowser
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

LOCAL = "127.0.0.1"
LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
TRIED_PORTS = 20
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),  # the page of an updated suite must not be the one before
)


class OnlyLocal:
    """ASGI middleware: refuses (403) whoever is not a page of ours, and adds the safety headers to every answer.

    Reading needs a Host that is a name of this machine, through whatever port (an SSH tunnel has its own). A
    WebSocket must also say that it comes from a page of that very address; so must a writing request that names
    an origin at all.
    """

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        given = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        if not allowed(scope["type"], scope.get("method", "GET"), given):
            return await refuse(scope["type"], send)

        async def guarded(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message.get("headers", ())}
                more = [(name, value) for name, value in HEADERS if name not in own]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        await self.app(scope, receive, guarded)


def allowed(kind: str, method: str, headers: list[tuple[bytes, str]]) -> bool:
    """Whether a request ("http") or a WebSocket ("websocket") with these headers comes from a page of ours."""
    hosts = [value for name, value in headers if name == b"host"]
    origins = [value for name, value in headers if name == b"origin"]
    if len(hosts) != 1 or len(origins) > 1:
        return False
    try:
        if urlsplit(f"//{hosts[0]}").hostname not in LOCAL_NAMES:
            return False
    except ValueError:
        return False
    same = origins == [f"http://{hosts[0]}"]
    if kind == "websocket":
        return same
    return same or not origins or method in ("GET", "HEAD")


async def refuse(kind: str, send: Callable[..., Any]) -> None:
    """Answers that this is not for the one who asks."""
    if kind == "websocket":
        return await send({"type": "websocket.close", "code": 1008, "reason": ""})
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain"), *HEADERS]})
    await send({"type": "http.response.body", "body": b"This page is for this machine only: open it as localhost.\n"})


def listen(port: int, say: Callable[[str], None]) -> socket.socket:
    """Binds the first free port from `port` on, on this machine's own address; says so if that is another one.

    Raises:
        ValueError: none of them is free, or it is no port.
    """
    if not 1 <= port <= 65_535:
        raise ValueError(f"--port {port}: a number from 1 to 65535")
    for candidate in range(port, min(port + TRIED_PORTS, 65_536)):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOCAL, candidate))
            listener.listen()
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            continue
        if candidate != port:
            say(f"port {port} is in use; taking {candidate}")
        return listener
    raise ValueError(f"--port {port}: none of {port} to {candidate} is free; choose another")


def run(app: Any, listener: socket.socket) -> None:
    """Serves an ASGI application until Ctrl-C; a browser that holds on to its WebSocket does not delay the end."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", ws_max_size=1 << 16, timeout_graceful_shutdown=1)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn ends in order, then raises it again
        uvicorn.Server(config).run(sockets=[listener])


def has_display() -> bool:
    """Whether a browser could show itself to somebody."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def open_page(listener: socket.socket, say: Callable[[str], Any]) -> None:
    """Opens a browser at the page, or says how to see it elsewhere.

    A browser in this terminal would wait for the server, and the server for it.
    """
    if has_display():
        webbrowser.open(address(listener))
    else:
        port = listener.getsockname()[1]
        say(f"No display here; from a machine with one: ssh -L {port}:localhost:{port} THIS_MACHINE")


def address(listener: socket.socket) -> str:
    """Where people find what is served there."""
    return f"http://localhost:{listener.getsockname()[1]}"
