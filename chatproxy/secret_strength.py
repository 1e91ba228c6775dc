"""Owns how hard to guess a secret must be that a person has chosen.

A guesser tries words, counting and repetition first. So the measure is the number of choices that the text needs: each
character is one, but a run that counts up or down or stays the same (`12345`, `aaaa`) and a repetition of an earlier
part (`passpass`) are one choice as a whole. Random text of 20 digits has more than the least number of choices.
"""

from __future__ import annotations

SHORTEST = 20  # characters
SHORTEST_ON_LOOPBACK = 16  # where nobody guesses over the network
FEWEST_CHOICES = 12
SHORTEST_PATTERN = 3  # characters; random text has many shorter runs and repetitions
LONGEST_READ = 200  # characters; the work is quadratic


def is_easily_guessed(text: str) -> bool:
    return count_choices(text[:LONGEST_READ].lower()) < FEWEST_CHOICES


def count_choices(text: str) -> int:
    """The number of single characters, runs and repetitions that make up `text`."""
    choices = at = 0
    while at < len(text):
        pattern = max(_length_of_run(text, at), _length_of_repetition(text, at))
        at += pattern if pattern >= SHORTEST_PATTERN else 1
        choices += 1
    return choices


def _length_of_run(text: str, start: int) -> int:
    """How many characters from `start` on have the same distance, -1, 0 or 1, from one to the next."""
    end = start + 1
    while end < len(text):
        step = ord(text[end]) - ord(text[end - 1])
        if step not in {-1, 0, 1} or step != ord(text[start + 1]) - ord(text[start]):
            break
        end += 1
    return end - start


def _length_of_repetition(text: str, start: int) -> int:
    """How many characters from `start` on are in the text before, too."""
    length = 0
    while start + length < len(text) and text.find(text[start : start + length + 1], 0, start + length) >= 0:
        length += 1
    return length
