"""Keys that are held down, as one of a game's actions."""

DIRECTIONS = ("UP", "DOWN", "LEFT", "RIGHT")
KEYS = {
    "ArrowUp": "UP", "ArrowDown": "DOWN", "ArrowLeft": "LEFT", "ArrowRight": "RIGHT", " ": "FIRE",
    "w": "UP", "s": "DOWN", "a": "LEFT", "d": "RIGHT",
}  # fmt: skip
# What actions of other worlds do, as a joystick would.
WORDS = {
    "MOVE_FORWARD": "UP", "MOVE_BACKWARD": "DOWN", "MOVE_UP": "UP", "MOVE_DOWN": "DOWN", "MOVE_LEFT": "LEFT",
    "MOVE_RIGHT": "RIGHT", "TURN_LEFT": "LEFT", "TURN_RIGHT": "RIGHT", "ATTACK": "FIRE", "DO": "FIRE",
    "NORTH": "UP", "SOUTH": "DOWN", "WEST": "LEFT", "EAST": "RIGHT",
}  # fmt: skip
IDLE = ("NOOP", "STAY")
OPPOSITES = ({"UP", "DOWN"}, {"LEFT", "RIGHT"})


def parts_of(name: str) -> frozenset[str]:
    """What a joystick does in an action: UPLEFTFIRE is {UP, LEFT, FIRE}, TURN_LEFT is {LEFT}; NOOP, or what no
    joystick does, nothing."""
    left, parts = WORDS.get(name.upper(), name), set()
    while left:
        part = next((part for part in (*DIRECTIONS, "FIRE") if left.startswith(part)), None)
        if part is None:
            return frozenset()
        parts.add(part)
        left = left.removeprefix(part)
    return frozenset(parts)


def idle_of(names: list[str]) -> int | None:
    """The action that does nothing; None if there is no such."""
    return next((i for i, name in enumerate(names) if name.upper() in IDLE), None)


def action_of(keys: list[str], names: list[str]) -> int | None:
    """The action that fits the keys that are held down best; None if no key is, or nothing in this game fits them.

    Opposite directions cancel. Where the game has no action for all of it, the one with most of it, FIRE first; for
    none of it, the one that does nothing.

    Args:
        keys: as browsers name them; a digit, such as "3", is that action itself, counted from 0.
        names: of the game's actions, such as NOOP and UPFIRE.
    """
    digits = [int(key) for key in keys if key.isdecimal() and int(key) < len(names)]
    if digits:
        return digits[-1]
    held = {KEYS[key] for key in keys if key in KEYS}
    if not held:
        return None
    for pair in OPPOSITES:
        if pair <= held:
            held -= pair
    fitting = [i for i, name in enumerate(names) if parts_of(name) and parts_of(name) <= held]
    best = max(fitting, key=lambda i: (len(parts_of(names[i])), "FIRE" in parts_of(names[i])), default=None)
    return idle_of(names) if best is None else best
