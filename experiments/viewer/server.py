"""The page's server: one show, any number of viewers, none of whom can hold it up."""

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from experiments.viewer.message import Message
from experiments.web import OnlyLocal

FILES = {
    "": ("page.html", "text/html"), "page.css": ("page.css", "text/css"), "page.js": ("page.js", "text/javascript"),
    "draw.js": ("draw.js", "text/javascript"), "icon.svg": ("icon.svg", "image/svg+xml"),
}  # fmt: skip
WAITING = 3  # messages a viewer may be behind before it misses some


class Hub:
    """Hands the newest messages to every viewer; whoever is too slow misses the oldest."""

    def __init__(self) -> None:
        self.viewers: set[Viewer] = set()
        self.newest: Message | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def publish(self, message: Message) -> None:
        """From any thread; never waits."""
        self.newest = message
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # the server has just ended
                self.loop.call_soon_threadsafe(self._hand_out, message)

    def _hand_out(self, message: Message) -> None:
        for viewer in self.viewers:
            viewer.waiting.append(message)
            viewer.news.set()


class Viewer:
    """One open page."""

    def __init__(self, socket: WebSocket):
        self.socket = socket
        self.waiting: deque[Message] = deque(maxlen=WAITING)
        self.news = asyncio.Event()
        self.episode, self.have = -1, 0

    async def send(self) -> None:
        """Sends what is waiting, for ever."""
        while True:
            await self.news.wait()
            self.news.clear()
            while self.waiting:
                message = self.waiting.popleft()
                if message.episode != self.episode:
                    self.episode, self.have = message.episode, 0
                content, self.have = message.pack(self.have)
                await self.socket.send_bytes(content)


def application(hub: Hub, show: Any) -> OnlyLocal:
    """The page, its files, and the WebSocket at /live: messages out, commands in."""

    async def live(socket: WebSocket) -> None:
        await socket.accept()
        viewer = Viewer(socket)
        hub.viewers.add(viewer)
        if hub.newest is not None:
            viewer.waiting.append(hub.newest)
            viewer.news.set()
        sending = asyncio.create_task(viewer.send())
        try:
            while True:
                command = json.loads(await socket.receive_text())
                if isinstance(command, dict) and "do" in command:
                    show.commands.put(command)
        except (WebSocketDisconnect, ValueError, RuntimeError, KeyError):
            pass  # a page was closed, or is none of ours
        finally:
            hub.viewers.discard(viewer)
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await sending
            show.commands.put({"do": "keys", "value": []})  # a closed page holds no key

    @contextlib.asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        hub.loop = asyncio.get_running_loop()
        thread = threading.Thread(target=show.run, name="show", daemon=True)
        thread.start()
        yield
        show.stopped = True
        thread.join(timeout=5)
        show.close()

    routes = [Route(f"/{name}", _file(*file)) for name, file in FILES.items()]
    return OnlyLocal(Starlette(routes=[*routes, WebSocketRoute("/live", live)], lifespan=running))


def _file(name: str, kind: str) -> Any:
    async def answer(request: Request) -> Response:
        return Response(resources.files("experiments.viewer").joinpath("static", name).read_bytes(), media_type=kind)

    return answer
