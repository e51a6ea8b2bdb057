"""What a reader must know before believing a comparison: its notes."""

from collections import Counter

from envs.protocols import PROTOCOLS
from experiments.choice import NEAR
from experiments.records import Record, best_of
from experiments.scored import Comparison
from experiments.tables import brief, extent


def remarks(comparison: Comparison, checkpoint: str) -> list[str]:
    """What a reader must know before believing a comparison."""
    notes = []
    if comparison.mixed:
        names = ", ".join(key.replace("_", " ") for key in comparison.mixed)
        notes.append(f"MIXED FINGERPRINTS: these scores were not measured alike: they differ in {names}")
    elif comparison.mixed_curves:
        names = ", ".join(key.replace("_", " ") for key in comparison.mixed_curves)
        notes.append(f"MIXED CURVES: evaluations in training were not made alike: they differ in {names}")
    if comparison.frames:
        notes.append(
            f"scores after {brief(comparison.frames)} frames of training: each run's last evaluation in training by"
            f" then, after {extent([run.result['frames'] for run in comparison.runs])}"
        )
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
    counts = set(Counter((run.agent, run.record.game) for run in comparison.runs).values())
    if min(counts) == 1 or comparison.shared_games:
        notes += few_seeds(counts)
    shared, common = comparison.shared_games, comparison.common_games
    counts = {len(comparison.of(a, g)) for a in comparison.agents for g in common}
    if len(common) > 1 and len(counts) > 1:
        notes.append(
            f"UNEQUAL SEEDS: {min(counts)} to {max(counts)} runs in a cell: in the interquartile mean, the optimality"
            " gap and the profiles, games with more runs count more; leave runs out until all have as many"
        )
    notes += unequal_frames(comparison, checkpoint)
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
    if unfinished and not comparison.frames:
        score = "best so far" if checkpoint == "best" else "latest score"
        notes.append(f"not finished: {len(unfinished)} of {len(comparison.runs)} runs, whose score is the {score}")
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


def few_seeds(counts: set[int]) -> list[str]:
    """A note on intervals over seeds where they are few, by the numbers of runs that cells of agent and game have."""
    few = min(counts)
    if few == 1:
        cells = "every cell has" if max(counts) == 1 else "some cells have"
        over = "" if max(counts) == 1 else ", nor over games with such a one"
        return [f"{cells} a single seed: no interval over seeds there{over}"]
    if few < 10:
        return [
            f"as few as {few} seeds: bootstrap intervals, which aggregates (but for means of one game's runs) and"
            " the probability of improvement have, are too narrow of so few: with 3 seeds on one game the truth is"
            " outside of 28 in 100, and on 26 games of 13; with 5 seeds of 17 and 9, instead of 5"
        ]
    return []


def unequal_frames(comparison: Comparison, checkpoint: str) -> list[str]:
    """A note on the game where lengths of training differ most, if on any they do, and after what they are alike."""
    found = []
    for game in comparison.games:
        runs = [run for run in comparison.runs if run.record.game == game]
        pairs = sorted((run.frames, run.agent) for run in runs)
        (least, shortest), (most, longest) = pairs[0], pairs[-1]
        if most > NEAR * least:
            words = f"on {game} {brief(least)} ({shortest}) to {brief(most)} ({longest})"
            found.append((most / max(least, 1), words, least))
    if not found:
        return []
    others = f", and unlike on {len(found) - 1} more" if len(found) > 1 else ""
    fewest = min(least for _, _, least in found)
    flag = f"--frames {brief(fewest)}" + " --checkpoint last" * (checkpoint == "best")
    evaluated = [run for run in comparison.runs if run.curve and run.curve[0][0] <= NEAR * fewest]
    advice = f"compare after as many ({flag}), or say so" if len(evaluated) > 1 else "say so"
    return [f"UNEQUAL FRAMES: {max(found)[1]} frames of training{others}: {advice}"]
