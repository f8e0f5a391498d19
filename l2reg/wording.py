"""Wording of messages: a number and what it counts."""


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 pair`` or ``12 pairs``.

    Args:
        number: How many there are.
        noun: Noun in the singular, perhaps after adjectives, whose plural ends in a plain ``s``.
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
