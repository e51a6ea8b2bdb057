"""What runs say side by side: agents by games, with intervals over seeds, under one fingerprint."""

from pathlib import Path
from typing import Any

from experiments.choice import apart_in, by_then, choose_in_each, eligible, how, repeated, world_of
from experiments.files import RunError
from experiments.labels import label, makes_another
from experiments.published import PublishedAgent
from experiments.records import completed, evaluations, find_runs, read_record, training_hours
from experiments.remarks import listed, remarks
from experiments.scored import Comparison, Scored
from experiments.tables import brief, extent, unlike


def load(
    paths: list[Path], *, checkpoint: str = "last", protocol: str = "", frames: int = 0, mixed: bool = False,
    published: tuple[PublishedAgent, ...] = (),
) -> Comparison:  # fmt: skip
    """Reads runs and decides which of their scores may stand side by side.

    Each run is scored by an evaluation of its last checkpoint: of those that every run has under the same
    conditions, the one with the most episodes, and of these with the smallest epsilon. Games of two worlds, such as
    Atari and Doom, have protocols of their own; what must be alike is how the games of each world were measured.

    Args:
        checkpoint: last, or best: the weights that scored best in training, which flatters.
        protocol: only evaluations under this one; empty: any.
        frames: of training, by which runs are scored and curves end, by evaluations in training; 0: at their end.
        mixed: compare scores of unlike fingerprints nevertheless.

    Raises:
        RunError: runs that cannot be read or scored, or whose scores are not comparable; says what to do.
    """
    if frames and (frames < 0 or checkpoint == "best"):
        raise RunError(
            "--frames is a number of frames, such as 5M" if frames < 0 else
            "--frames scores the weights of that time, and --checkpoint best those of another: leave one of them out"
        )  # fmt: skip
    records = completed([read_record(path) for path in find_runs(paths)])
    measured = {record.path: eligible(evaluations(record.path), checkpoint, protocol, frames) for record in records}
    choices, notes = {path: found for path, found in measured.items() if found}, []
    without = [record.name for record in records if record.path not in choices]
    if without:
        kind = f" under {protocol}" if protocol else ""
        when = f"in training up to {brief(frames)} frames" if frames else f"of the {checkpoint} weights"
        notes.append(f"left out, without an evaluation{kind} {when}: {listed(without)}")
    records = [record for record in records if record.path in choices]
    if not records:
        check_protocol(protocol, sorted({read_record(path).game for path in measured}))
        if frames:
            raise RunError(no_score_by(frames, protocol, list(measured)))
        raise RunError(
            f"none of these runs has an evaluation of its {checkpoint} weights yet: wait, or highscore evaluate RUN"
            + (f" --protocol {protocol}" if protocol else "")
            + (" --checkpoint best" if checkpoint == "best" else "")
        )
    worlds = [world_of(choices[record.path][0]["protocol"]) for record in records]
    chosen = choose_in_each(worlds, [choices[record.path] for record in records])
    apart = apart_in(worlds, [[result] for result in chosen])
    if apart and not mixed:
        raise RunError(refusal(apart))
    others = {how(result) for found in choices.values() for result in found} - {how(result) for result in chosen}
    if others:
        notes.append(
            f"also measured, and not shown: {'; '.join(sorted(others))}. Of what all runs have,"
            " the most episodes count, then the smallest epsilon"
        )
    if again := [r.name for r, one in zip(records, chosen, strict=True) if repeated(choices[r.path], one)]:
        notes.append(
            f"measured more than once under these conditions: {listed(again)}: what training measured counts, else the"
            " evaluation with the smallest seed"
        )
    labels = label([record.settings for record in records])
    runs = [
        Scored(record, name, result, curve_of(record.path, frames), training_hours(record.path))
        for record, name, result in zip(records, labels, chosen, strict=True)
    ]
    unlike_curves = apart_in(worlds, [by_then(evaluations(run.record.path), frames) for run in runs])
    comparison = Comparison(runs, apart, differences(runs), list(published), notes, unlike_curves, frames)
    notes += remarks(comparison, checkpoint)
    for agent in published:
        notes.append(f"published {agent.name}, {trained_for(agent)}: {agent.protocol}; {agent.source}")
    return comparison


def no_score_by(frames: int, protocol: str, paths: list[Path]) -> str:
    """Why no run has a score by so many frames, and what to do."""
    under, first = f" under {protocol}" if protocol else "", []
    for path in paths:
        found = [result for result in by_then(evaluations(path), 0) if protocol in ("", result.get("protocol"))]
        first += [result["frames"] for result in found[:1]]
    ends = (
        f"the first evaluation was after {extent(first)}: --frames {brief(max(first))}"
        if first
        else "do without --frames"
    )
    return f"none of these runs was evaluated in training{under} by {brief(frames)} frames; {ends}"


def check_protocol(protocol: str, games: list[str]) -> None:
    """Refuses a protocol that none of some games has; "" is any.

    Raises:
        ValueError: names those that the first of them has.
    """
    from envs.library import game_of

    if protocol and not any(protocol in game_of(game).protocols for game in games):
        game_of(games[0]).protocol(protocol)


def refusal(apart: dict[str, list[Any]]) -> str:
    """Why scores are not comparable, and what to do."""
    what = unlike(apart)
    if len(what) > 300:
        what = what[:300] + " ..."
    return (
        f"these scores were not measured alike ({what}) and cannot be compared; evaluate all runs alike"
        " (highscore evaluate RUN --episodes 100 --protocol NAME --epsilon 0.001), choose one --protocol,"
        " or say --mixed True to compare nevertheless"
    )


def differences(runs: list[Scored]) -> dict[str, dict[str, Any]]:
    """Settings in which agents differ: {setting: {agent: value}}."""
    first: dict[str, dict[str, Any]] = {}
    for run in runs:
        first.setdefault(run.agent, run.record.settings)
    for agent, settings in first.items():  # each world's games have their own
        protocols = sorted({run.record.settings["protocol"] for run in runs if run.agent == agent})
        first[agent] = settings | {"protocol": ", ".join(protocols)}
    every = {key for settings in first.values() for key in settings}
    keys = sorted(key for key in every if makes_another(key) and key != "preset")
    table = {key: {agent: settings.get(key) for agent, settings in first.items()} for key in keys}
    return {key: row for key, row in table.items() if len({repr(value) for value in row.values()}) > 1}


def curve_of(path: Path, frames: int) -> list[tuple[int, float]]:
    """A run's evaluations in training, up to so many frames if not 0: (emulator frames, mean raw score)."""
    return [(result["frames"], result["mean"]) for result in by_then(evaluations(path), frames)]


def trained_for(agent: PublishedAgent) -> str:
    """How long a published agent was trained, in words."""
    return "frames unknown" if agent.million_frames is None else f"after {agent.million_frames:g} M frames"
