"""Numbers with their nouns, in messages and on pages: 1 call, 2 calls."""

from __future__ import annotations


def counted(number: int, noun: str, others: str = "") -> str:
    """Returns a number with its noun as text, such as "1 call" or "1,234 calls".

    `others` is the form of the noun for all numbers but 1; by default, the noun with an s.
    """
    return f"{number:,} {plural(number, noun, others)}"


def plural(number: float, noun: str, others: str = "") -> str:
    """Returns the form of a noun that fits a number: the noun itself for 1, else `others`, by default with an s."""
    return noun if number == 1 else others or f"{noun}s"
