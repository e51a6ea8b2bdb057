"""The dashboard's routes: everything is read, nothing of a run is written."""

import asyncio
import contextlib
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Coroutine
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from experiments.dashboard.board import RANKED_BY, leaderboard
from experiments.dashboard.films import SECONDS, FilmError, Films
from experiments.dashboard.index import Entry, Index, scales
from experiments.dashboard.pages import charts, clean, episode_near, run_page, videos
from experiments.lines import episodes_back
from experiments.published import curves_of, published_agents, published_curve
from experiments.records import evaluations, is_count
from experiments.web import OnlyLocal

AXES = ("frames", "steps", "hours")
LOOKS = 0.5  # seconds between looks whether anybody waits for a film
MOST_IDS = 2_000
MOST_DIGITS = 15  # of an episode's number


def application(root: Path) -> Any:
    """The dashboard over the runs below a folder, as an ASGI application."""
    index, films = Index(root), Films()
    boards: dict[str, Any] = {}  # that were found last, and for what

    def run_of(request: Request) -> Entry:
        entry = index.entry(request.path_params["run"])
        if entry is None:
            raise HTTPException(404, "this run is gone, or there never was one")
        return entry

    def page(request: Request) -> Response:
        return FileResponse(str(static() / "index.html"))

    def runs(request: Request) -> Response:
        return answer(index.runs(int_query(request, "since", -1)))

    def about(request: Request) -> Response:
        games = {run["game"] for run in index.runs(-1)["runs"]}
        return answer({
            "root": str(root), "metrics": index.metrics(), "settings": clean(index.settings()), "scales": scales(games),
            "curves": {game: curves_of(game) for game in sorted(games)}, "published": list(published_agents()),
        })  # fmt: skip

    def curves(request: Request) -> Response:
        given = request.query_params.get("runs")
        ids = given.split(",")[:MOST_IDS] if given else None
        metric = request.query_params.get("metric", "charts/episodic_return")[:200]
        return answer(index.curves(metric, axis_of(request), int_query(request, "since", -1), ids))

    def published(request: Request) -> Response:
        try:
            curve = published_curve(request.query_params.get("agent", ""), request.query_params.get("game", ""))
        except ValueError as error:
            raise HTTPException(404, str(error)) from None
        return answer(curve._asdict() | {"middle": curve.middle})

    def board(request: Request) -> Response:
        names = [name for name in request.query_params.getlist("published") if name in published_agents()]
        runs, suite = index.measured(), request.query_params.get("suite")
        runs = [run for run in runs if suite is None or run["folder"] == suite]
        asked = repr((names, [[run.get(key) for key in RANKED_BY] for run in runs]))
        if boards.get("asked") != asked:  # pages ask again whenever a run goes on
            boards.update(asked=asked, found=clean(leaderboard(runs, names)))
        return answer(boards["found"])

    def one_run(request: Request) -> Response:
        return answer(run_page(run_of(request)))

    def run_charts(request: Request) -> Response:
        return answer(charts(run_of(request), axis_of(request)))

    def episode(request: Request) -> Response:
        entry = run_of(request)
        metric = request.query_params.get("metric", "")
        found = episode_near(entry.record.path, int_query(request, "frames", 0), metric)
        if found is None:
            raise HTTPException(404, "no episode of this run was recorded")
        film = f"/film/{entry.id}/{found['episode']}.mp4"
        return answer(found | {"film": film, "seconds": SECONDS, "name": entry.record.name})

    async def film(request: Request) -> Response:
        entry, episode = await run_in_threadpool(run_of, request), request.path_params["episode"]
        name = await run_in_threadpool(name_of, entry, episode)
        try:
            path = await while_wanted(request, films.episode(entry.record.path, name, episode))
        except FilmError as error:
            raise HTTPException(409, str(error)) from None
        return FileResponse(path, media_type="video/mp4")

    def video(request: Request) -> Response:
        entry, name = run_of(request), request.path_params["name"]
        if name not in videos(entry.record.path):
            raise HTTPException(404, "this run has no such video")
        return FileResponse(entry.record.path / "recordings" / name, media_type="video/mp4")

    def live(request: Request) -> Response:
        entry, episode = run_of(request), request.query_params.get("episode", "")
        name = name_of(entry, episode) if episode else entry.id
        try:
            return answer({"address": films.watch(entry.record.path, name, episode)})
        except FilmError as error:
            raise HTTPException(409, str(error)) from None

    routes = [
        Route("/", page), Route("/api/runs", runs), Route("/api/about", about), Route("/api/curves", curves),
        Route("/api/published", published), Route("/api/leaderboard", board), Route("/api/run/{run}", one_run),
        Route("/api/run/{run}/charts", run_charts), Route("/api/run/{run}/episode", episode),
        Route("/api/run/{run}/watch", live, methods=["POST"]), Route("/film/{run}/{episode:path}.mp4", film),
        Route("/video/{run}/{name}", video), Mount("/static", StaticFiles(directory=str(static()))),
    ]  # fmt: skip

    @contextlib.asynccontextmanager
    async def ending(app: Starlette) -> AsyncIterator[None]:
        threading.Thread(target=warm, args=(index,), daemon=True).start()
        yield
        films.close()

    return OnlyLocal(Starlette(routes=routes, exception_handlers={HTTPException: in_words}, lifespan=ending))


def warm(index: Index) -> None:
    """Reads what the first page will ask for, while the browser is opening."""
    index.curves("charts/episodic_return", "frames", -1, None)


def static() -> Path:
    """Where the page, its scripts and its style are."""
    return Path(str(resources.files("experiments.dashboard").joinpath("static")))


def answer(data: Any) -> Response:
    """JSON, without spaces; refuses NaN, which browsers cannot read."""
    content = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return Response(content, media_type="application/json")


def name_of(entry: Entry, episode: str) -> str:
    """What tells a recorded episode from all others, that of the same number before a resume among them.

    Args:
        episode: the number of a training episode, or EVALUATION/NUMBER.

    Raises:
        HTTPException: nothing is called so.
    """
    evaluation, _, number = episode.rpartition("/")
    kept = {one["name"]: one for one in evaluations(entry.record.path)} if evaluation else {"": None}
    if evaluation not in kept or not is_count(number) or len(number) > MOST_DIGITS:
        raise HTTPException(404, f"no episode {episode} of this run was recorded")
    known = kept[evaluation]
    if not evaluation:
        with contextlib.suppress(OSError):
            known = next(episodes_back(entry.record.path, int(number)), None)
    return f"{entry.id}-{number}-{hashlib.sha256(repr(known).encode()).hexdigest()[:12]}"


async def while_wanted(request: Request, work: Coroutine[Any, Any, Path]) -> Path:
    """What comes of some work, which is given up when nobody waits for it any more.

    Raises:
        HTTPException: it was given up, or the dashboard ends.
    """
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({task}, timeout=LOOKS))[0]:
            if await request.is_disconnected():
                raise HTTPException(503, "nobody waits for it")
        return task.result()
    except asyncio.CancelledError:  # passed on, it would be a page of traceback for each film
        raise HTTPException(503, "the dashboard ends") from None
    finally:
        task.cancel()


async def in_words(request: Request, error: Exception) -> Response:
    """What went wrong, as JSON."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


def int_query(request: Request, name: str, default: int) -> int:
    """A whole number of the query.

    Raises:
        HTTPException: it is none.
    """
    text = request.query_params.get(name, str(default))
    try:
        number = int(text)
    except ValueError:
        raise HTTPException(400, f"{name} must be a whole number") from None
    if not -1 <= number < 1 << 62:
        raise HTTPException(400, f"{name} is out of range")
    return number


def axis_of(request: Request) -> str:
    """frames, steps or hours.

    Raises:
        HTTPException: it is none of them.
    """
    axis = request.query_params.get("axis", "frames")
    if axis not in AXES:
        raise HTTPException(400, f"axis must be one of {', '.join(AXES)}")
    return axis
