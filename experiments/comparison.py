"""What runs say side by side: agents by games, with intervals over seeds, under one fingerprint."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.protocols import PROTOCOLS
from envs.scores import human_normalised
from experiments.choice import apart_in, choose_in_each, eligible, how, repeated, world_of
from experiments.files import RunError
from experiments.labels import label, makes_another
from experiments.published import PublishedAgent
from experiments.records import (
    Record,
    best_of,
    completed,
    evaluations,
    find_runs,
    in_training,
    read_record,
    training_hours,
)
from experiments.tables import brief


class Scored(NamedTuple):
    """One run with the evaluation that counts, and its learning curve."""

    record: Record
    agent: str
    result: dict[str, Any]
    curve: list[tuple[int, float]]  # (emulator frames, mean raw score) of each evaluation in training
    hours: list[tuple[int, float]]  # (emulator frames, hours of training)

    @property
    def normalised(self) -> float | None:
        return human_normalised(self.record.game, self.result["mean"])

    @property
    def frames(self) -> int:
        """Emulator frames of training up to the last evaluation of any kind."""
        return max([self.result["frames"], *(frames for frames, _ in self.curve)])


class Comparison(NamedTuple):
    """Runs by agent and game, and what may be said of them."""

    runs: list[Scored]
    mixed: dict[str, list[Any]]  # conditions in which the scores differ: {} unless that was asked for
    differences: dict[str, dict[str, Any]]  # setting: its value by agent, where agents differ
    published: list[PublishedAgent]
    notes: list[str]
    mixed_curves: dict[str, list[Any]]  # conditions in which evaluations in training differ

    @property
    def agents(self) -> list[str]:
        return list(dict.fromkeys(run.agent for run in self.runs))

    @property
    def games(self) -> list[str]:
        return sorted({run.record.game for run in self.runs})

    def of(self, agent: str, game: str) -> list[Scored]:
        """The runs of an agent on a game, by seed."""
        found = [run for run in self.runs if (run.agent, run.record.game) == (agent, game)]
        return sorted(found, key=lambda run: run.record.seed)

    @property
    def shared_games(self) -> list[str]:
        """Games that every agent has played: only over these is one more likely to score more than another."""
        played = {(run.agent, run.record.game) for run in self.runs}
        agents = self.agents
        return [game for game in self.games if all((agent, game) in played for agent in agents)]

    @property
    def common_games(self) -> list[str]:
        """Those of them with human-normalised scores: only over these do aggregates compare."""
        return [game for game in self.shared_games if human_normalised(game, 0.0) is not None]

    def scores(self, agent: str) -> list[np.ndarray]:
        """Human-normalised scores on the common games: per game, [runs]."""
        return [np.array([run.normalised for run in self.of(agent, game)]) for game in self.common_games]

    def raw(self, agent: str) -> list[np.ndarray]:
        """Raw scores on the shared games: per game, [runs]."""
        return [np.array([run.result["mean"] for run in self.of(agent, game)]) for game in self.shared_games]


def load(
    paths: list[Path], *, checkpoint: str = "last", protocol: str = "", mixed: bool = False,
    published: tuple[PublishedAgent, ...] = (),
) -> Comparison:  # fmt: skip
    """Reads runs and decides which of their scores may stand side by side.

    Each run is scored by an evaluation of its last checkpoint: of those that every run has under the same
    conditions, the one with the most episodes, and of these with the smallest epsilon. Games of two worlds, such as
    Atari and Doom, have protocols of their own; what must be alike is how the games of each world were measured.

    Args:
        checkpoint: last, or best: the weights that scored best in training, which flatters.
        protocol: only evaluations under this one; empty: any.
        mixed: compare scores of unlike fingerprints nevertheless.

    Raises:
        RunError: runs that cannot be read or scored, or whose scores are not comparable; says what to do.
    """
    records = completed([read_record(path) for path in find_runs(paths)])
    measured = {record.path: eligible(evaluations(record.path), checkpoint, protocol) for record in records}
    choices, notes = {path: found for path, found in measured.items() if found}, []
    without = [record.name for record in records if record.path not in choices]
    if without:
        kind = f" under {protocol}" if protocol else ""
        notes.append(f"left out, without an evaluation{kind} of the {checkpoint} weights: {listed(without)}")
    records = [record for record in records if record.path in choices]
    if not records:
        check_protocol(protocol, sorted({read_record(path).game for path in measured}))
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
        Scored(record, name, result, curve_of(record.path), training_hours(record.path))
        for record, name, result in zip(records, labels, chosen, strict=True)
    ]
    unlike = apart_in(worlds, [in_training(evaluations(run.record.path)) for run in runs])
    comparison = Comparison(runs, apart, differences(runs), list(published), notes, unlike)
    notes += remarks(comparison, checkpoint)
    return comparison


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
    what = "; ".join(f"{key.replace('_', ' ')} {' or '.join(map(str, values))}" for key, values in apart.items())
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


def curve_of(path: Path) -> list[tuple[int, float]]:
    """A run's evaluations in training: (emulator frames, mean raw score)."""
    return [(result["frames"], result["mean"]) for result in in_training(evaluations(path))]


def remarks(comparison: Comparison, checkpoint: str) -> list[str]:
    """What a reader must know before believing a comparison."""
    notes = []
    if comparison.mixed:
        names = ", ".join(key.replace("_", " ") for key in comparison.mixed)
        notes.append(f"MIXED FINGERPRINTS: these scores were not measured alike: they differ in {names}")
    elif comparison.mixed_curves:
        names = ", ".join(key.replace("_", " ") for key in comparison.mixed_curves)
        notes.append(f"MIXED CURVES: evaluations in training were not made alike: they differ in {names}")
    if checkpoint == "best":
        notes.append("BEST CHECKPOINT: each run is scored by the weights that scored best in training, which flatters")
        stale = [
            r.record.name for r in comparison.runs if best_of(r.record.path) not in (None, r.result["agent_steps"])
        ]
        if stale:
            notes.append(
                f"NOT THE BEST ANY MORE: {listed(stale)}: better weights came after that evaluation; highscore evaluate"
                " RUN --checkpoint best"
            )
    same = Counter((run.agent, run.record.game, run.record.seed) for run in comparison.runs)
    if again := [f"{agent} on {game}, seed {seed}" for (agent, game, seed), count in same.items() if count > 1]:
        notes.append(
            f"SEEDS TWICE: {listed(again)}: a training with the same seed"
            " repeats itself, and its score counts as one more here: leave all but one of each out"
        )
    notes += mixed_training(comparison) + mixed_code(comparison) + mixed_emulators(comparison)
    notes += mixed_machines(comparison)
    few = set(Counter((run.agent, run.record.game) for run in comparison.runs).values())
    if min(few) == 1:
        cells = "every cell has" if max(few) == 1 else "some cells have"
        over = "" if max(few) == 1 else ", nor over games with such a one"
        notes.append(f"{cells} a single seed: no interval over seeds there{over}")
    elif min(few) < 10 and comparison.shared_games:
        notes.append(
            f"as few as {min(few)} seeds: bootstrap intervals, which aggregates and the probability of improvement"
            " have, are too narrow of so few: with 3 seeds on one game the truth is outside of 28 in 100, and on 26"
            " games of 13; with 5 seeds of 17 and 9, instead of 5"
        )
    shared, common = comparison.shared_games, comparison.common_games
    counts = {len(comparison.of(a, g)) for a in comparison.agents for g in common}
    if len(common) > 1 and len(counts) > 1:
        notes.append(
            f"UNEQUAL SEEDS: {min(counts)} to {max(counts)} runs in a cell: in the interquartile mean, the optimality"
            " gap and the profiles, games with more runs count more; leave runs out until all have as many"
        )
    notes += unequal_frames(comparison)
    missing = [game for game in comparison.games if game not in shared]
    if missing:
        notes.append(
            f"aggregates and the probability of improvement leave out {', '.join(missing)}:"
            " not every agent has played that"
        )
    inhuman = [game for game in shared if game not in common]
    if inhuman and (common or len(comparison.agents) > 1):
        notes.append(
            f"human-normalised aggregates leave out {', '.join(inhuman)}, for there is no human score; the probability"
            " of improvement needs none"
        )
    unfinished = [run for run in comparison.runs if run.frames < run.record.settings["frames"]]
    if unfinished:
        score = "best so far" if checkpoint == "best" else "latest score"
        notes.append(f"not finished: {len(unfinished)} of {len(comparison.runs)} runs, whose score is the {score}")
    for agent in comparison.published:
        notes.append(f"published {agent.name}, {trained_for(agent)}: {agent.protocol}; {agent.source}")
    return notes


def listed(names: list[str]) -> str:
    """The first few of many names."""
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' * (len(names) > 3)}"


def mixed_code(comparison: Comparison) -> list[str]:
    """A note on runs that were begun with unlike code, or unlike emulators, if they were."""
    begun = Counter(code_of(run.record) for run in comparison.runs)
    commits, emulators = ({code[i] for code in begun} - {""} for i in (0, 1))
    if len(commits) < 2 and len(emulators) == len({emulator.split()[0] for emulator in emulators}):
        return []
    words = {" and ".join(filter(None, code)): count for code, count in begun.most_common()}
    said = listed([f"{code} ({count} run{'s' * (count > 1)})" for code, count in words.items()])
    return [f"MIXED CODE: these runs were begun with {said}: what they learned with may differ, too"]


def mixed_machines(comparison: Comparison) -> list[str]:
    """A note on runs of unlike machines, if there are some: hours of one are not those of another."""
    told = [run.record.config.get("machine") for run in comparison.runs]
    common = set.intersection(*(set(one) if isinstance(one, dict) else set() for one in told))  # older runs tell less
    machines = [{key: one[key] for key in common} if isinstance(one, dict) else one for one in told]
    if all(machine == machines[0] for machine in machines):
        return []
    return ["MIXED MACHINES: hours of training are of unlike machines: compare agents by frames"]


def code_of(record: Record) -> tuple[str, str]:
    """The commit that a run was begun at, and its emulator with its version or "", in words."""
    commit = record.config.get("commit")
    code = f"commit {commit[:10]}{'+' * commit.endswith('+')}" if isinstance(commit, str) else "code of no commit"
    protocol, versions = PROTOCOLS.get(record.settings["protocol"]), record.config.get("versions")
    world = protocol.world if protocol else ""
    package = {"atari": "ale-py", "doom": "vizdoom"}.get(world, world)
    version = versions.get(package) if isinstance(versions, dict) else None
    return code, f"{package} {version}" if version else ""


def mixed_emulators(comparison: Comparison) -> list[str]:
    """A note on scores that unlike versions of an emulator gave, if some did; evaluations of before say none."""
    told = {str(run.result["emulator"]) for run in comparison.runs if run.result.get("emulator")}
    packages = [name.split()[0] for name in told]
    unlike = sorted(name for name in told if packages.count(name.split()[0]) > 1)
    return [f"MIXED EMULATORS: these scores were measured with {' or '.join(unlike)}"] if unlike else []


def mixed_training(comparison: Comparison) -> list[str]:
    """A note on agents that were evaluated alike and trained under unlike protocols of a world, if there are some."""
    found: dict[str, dict[str, set[str]]] = {}
    for run in comparison.runs:
        protocol = PROTOCOLS.get(name := run.record.settings["protocol"])
        found.setdefault(protocol.world if protocol else "", {}).setdefault(name, set()).add(run.agent)
    unlike = [
        f"{' or '.join(f'{name} ({listed(sorted(agents))})' for name, agents in sorted(of_world.items()))}"
        for of_world in found.values() if len(of_world) > 1
    ]  # fmt: skip
    return [f"MIXED TRAINING: trained under {', '.join(unlike)}, whatever they were evaluated under"] if unlike else []


def unequal_frames(comparison: Comparison) -> list[str]:
    """A note on the game where lengths of training differ most, if on any they do."""
    found = []
    for game in comparison.games:
        runs = [run for run in comparison.runs if run.record.game == game]
        pairs = sorted((run.frames, run.agent) for run in runs)
        (least, shortest), (most, longest) = pairs[0], pairs[-1]
        if most > 1.01 * least:  # whole rounds of games and rollouts end a little apart
            found.append((most / max(least, 1), f"on {game} {brief(least)} ({shortest}) to {brief(most)} ({longest})"))
    if not found:
        return []
    others = f", and unlike on {len(found) - 1} more" if len(found) > 1 else ""
    return [f"UNEQUAL FRAMES: {max(found)[1]} frames of training{others}: compare after as many, or say so"]


def trained_for(agent: PublishedAgent) -> str:
    """How long a published agent was trained, in words."""
    return "frames unknown" if agent.million_frames is None else f"after {agent.million_frames:g} M frames"
