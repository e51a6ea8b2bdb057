"""Keys that are held down, as one of a game's actions."""

DIRECTIONS = ("UP", "DOWN", "LEFT", "RIGHT")
KEYS = {
    "ArrowUp": "UP", "ArrowDown": "DOWN", "ArrowLeft": "LEFT", "ArrowRight": "RIGHT", " ": "FIRE",
    "w": "UP", "s": "DOWN", "a": "LEFT", "d": "RIGHT",
}  # fmt: skip
OPPOSITES = ({"UP", "DOWN"}, {"LEFT", "RIGHT"})


def parts_of(name: str) -> frozenset[str]:
    """What a joystick does in an action: UPLEFTFIRE is {UP, LEFT, FIRE}; NOOP, or a name of another kind, nothing."""
    left, parts = name, set()
    while left:
        part = next((part for part in (*DIRECTIONS, "FIRE") if left.startswith(part)), None)
        if part is None:
            return frozenset()
        parts.add(part)
        left = left.removeprefix(part)
    return frozenset(parts)


def action_of(keys: list[str], names: list[str]) -> int | None:
    """The action that fits the keys that are held down best; None if no key is.

    Opposite directions cancel. Where the game has no action for all of it, the one with most of it, FIRE first.

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
    fitting = [i for i, name in enumerate(names) if parts_of(name) <= held]
    return max(fitting, key=lambda i: (len(parts_of(names[i])), "FIRE" in parts_of(names[i])), default=0)
