"""The page's server: one show, any number of viewers, none of whom can hold it up."""

import asyncio
import contextlib
import json
import os
import signal
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

from experiments.viewer.message import Message, line_of
from experiments.web import OnlyLocal

FILES = {
    "": ("page.html", "text/html"), "page.css": ("page.css", "text/css"), "page.js": ("page.js", "text/javascript"),
    "draw.js": ("draw.js", "text/javascript"), "icon.svg": ("icon.svg", "image/svg+xml"),
}  # fmt: skip
WAITING = 3  # messages a viewer may be behind before it misses some
LAST_WORDS = 5.0  # seconds for pages that have just been asked for: so long a show that could not begin tells why


class Hub:
    """Hands the newest messages to every viewer; whoever is too slow misses the oldest.

    Attributes:
        failure: why the show could not even begin, if so.
    """

    def __init__(self) -> None:
        self.viewers: set[Viewer] = set()
        self.newest: Message | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.failure: Exception | None = None

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
        self.keys: list[Any] = []  # that are held there
        self.away = False  # behind another page, or minimised

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


def application(hub: Hub, show: Any, patience: float = 0.0) -> OnlyLocal:
    """The page, its files, and the WebSocket at /live: messages out, commands in.

    Args:
        patience: seconds without a viewer after which the server ends; 0: it never does.
    """
    leaving: list[asyncio.TimerHandle] = []

    def attend() -> None:
        """Tells the show whether anybody looks, and all keys that are held."""
        show.alone = all(viewer.away for viewer in hub.viewers)
        show.commands.put({"do": "keys", "value": [key for viewer in hub.viewers for key in viewer.keys]})
        while leaving:
            leaving.pop().cancel()
        if not hub.viewers and patience:
            leaving.append(asyncio.get_running_loop().call_later(patience, end))

    async def live(socket: WebSocket) -> None:
        await socket.accept()
        if hub.failure is not None:
            return await refuse(socket, hub.failure)
        viewer = Viewer(socket)
        hub.viewers.add(viewer)
        attend()
        if hub.newest is not None:
            viewer.waiting.append(hub.newest)
            viewer.news.set()
        sending = asyncio.create_task(viewer.send())
        try:
            while True:
                command = json.loads(await socket.receive_text())
                if not isinstance(command, dict) or "do" not in command:
                    continue
                value = command.get("value")
                if command["do"] == "keys":
                    viewer.keys = value[:8] if isinstance(value, list) else []
                    attend()
                elif command["do"] == "away":
                    viewer.away = value is True
                    attend()
                else:
                    show.commands.put(command)
        except (WebSocketDisconnect, ValueError, RuntimeError, KeyError):
            pass  # a page was closed, or is none of ours
        finally:
            hub.viewers.discard(viewer)
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await sending
            attend()  # a closed page holds no key, and looks no more

    @contextlib.asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        hub.loop = asyncio.get_running_loop()
        attend()
        thread = threading.Thread(target=play, name="show", daemon=True)
        thread.start()
        yield
        show.stop()
        thread.join(timeout=5)
        if not thread.is_alive():  # no emulator ends in the middle of a step
            show.close()

    def play() -> None:
        try:
            show.run()
        except Exception as error:
            if not show.stopped:
                hub.failure = error
                assert hub.loop is not None  # since `running`
                asyncio.run_coroutine_threadsafe(give_up(error), hub.loop)

    async def give_up(error: Exception) -> None:
        """Lets open pages, and those that come now, say why nothing is shown; then ends the server."""
        told = (refuse(viewer.socket, error) for viewer in hub.viewers)
        await asyncio.gather(asyncio.sleep(LAST_WORDS), *told, return_exceptions=True)
        end()

    routes = [Route(f"/{name}", _file(*file)) for name, file in FILES.items()]
    return OnlyLocal(Starlette(routes=[*routes, WebSocketRoute("/live", live)], lifespan=running))


async def refuse(socket: WebSocket, error: Exception) -> None:
    """Closes a page's connection with the reason, of which there is room for 123 bytes."""
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it was closed
        await socket.close(1011, line_of(error).encode(errors="replace")[:123].decode(errors="ignore"))


def _file(name: str, kind: str) -> Any:
    async def answer(request: Request) -> Response:
        return Response(resources.files("experiments.viewer").joinpath("static", name).read_bytes(), media_type=kind)

    return answer


def end() -> None:
    """Ends the server, as Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)
