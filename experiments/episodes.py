"""The episodes that a run has recorded: all of its training, and those of every evaluation."""

from pathlib import Path
from typing import Any

from envs.recording import Recording
from experiments.run import Run, RunError, read_json, read_rows


def find_episode(run: Run, name: str) -> Recording:
    """A recorded episode by name.

    Args:
        name: the number of a training episode, counted from 1; or EVALUATION/NUMBER, the name of a file in
            evaluations/ and the number of one of its episodes.

    Raises:
        RunError: there is none of that name, or its recording is damaged.
    """
    evaluation, _, number = name.rpartition("/")
    if not number.isdigit():
        raise RunError(f"--episode {name}: a number, such as 12, or EVALUATION/NUMBER, such as 000000250000/3")
    rows = evaluation_episodes(run, evaluation) if evaluation else training_episodes(run.path)
    if not 1 <= int(number) <= len(rows):
        raise RunError(f"--episode {name}: {run.path} has recorded 1 to {len(rows)} there")
    try:
        with (run.path / "recordings" / f"{evaluation or 'training'}.rec").open("rb") as file:
            *_, last = mine = [row for row in rows[: int(number)] if row["game"] == rows[int(number) - 1]["game"]]
            earlier = reversed(mine[:-1])

            def content(row: dict[str, Any]) -> bytes:
                offset, length = row["recording"]
                file.seek(offset)
                return file.read(length)

            return Recording.unpack(content(last), lambda: content(next(earlier)))
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise RunError(f"the recording of episode {name} of {run.path} is damaged: {error}") from None


def evaluation_episodes(run: Run, evaluation: str) -> list[dict[str, Any]]:
    """A row per recorded episode of an evaluation: which of its games played it, and where its recording is.

    Raises:
        RunError: there is no such evaluation.
    """
    known = sorted(path.stem for path in (run.path / "evaluations").glob("*.json"))
    if evaluation not in known:  # so that no name leads out of the directory
        raise RunError(f"{run.path} has no evaluation {evaluation!r}; there are {', '.join(known) or 'none yet'}")
    result = read_json(run.path / "evaluations" / f"{evaluation}.json")
    pairs = zip(result.get("games", []), result.get("recordings", []), strict=True)
    return [{"game": game, "recording": where} for game, where in pairs]


def training_episodes(path: Path) -> list[dict[str, Any]]:
    """Rows of a run's recorded training episodes, oldest first."""
    return [row for row in read_rows(path / "episodes.jsonl") if "recording" in row]
