"""Decides whether a secret that a person has chosen is hard enough to guess.

Somebody who guesses tries simple patterns first. So the measure is the number of choices that are needed to write the
text: each character is one choice. A run that counts up or down or stays the same (`12345`, `aaaa`) is one choice as a
whole, and so is a repetition of an earlier part (`passpass`). A random text of 20 digits has more than `MIN_CHOICES`.
"""

from __future__ import annotations

MIN_LENGTH = 20  # characters
MIN_LENGTH_ON_LOOPBACK = 16  # where nobody guesses over the network
MIN_CHOICES = 12
MIN_PATTERN_LENGTH = 3  # characters; random text has many shorter runs and repetitions
MAX_READ_LENGTH = 200  # characters; the work is quadratic


def is_easily_guessed(text: str) -> bool:
    """Returns whether a secret is too easy to guess, because it repeats itself or has runs such as `1234`.

    Each character counts as one choice, and so does a whole run or repetition (`count_choices`). Fewer than
    `MIN_CHOICES` choices are too few.
    """
    # The secret's length is checked elsewhere.
    return count_choices(text[:MAX_READ_LENGTH].lower()) < MIN_CHOICES


def count_choices(text: str) -> int:
    """Counts the choices that somebody makes to write a text, as a measure of how hard it is to guess.

    Each character is one choice; but a whole run such as `1234`, or a repetition of earlier text, is only one.
    """
    choices = at = 0
    while at < len(text):
        pattern = max(_length_of_run(text, at), _length_of_repetition(text, at))
        at += pattern if pattern >= MIN_PATTERN_LENGTH else 1
        choices += 1
    return choices


def _length_of_run(text: str, start: int) -> int:
    """Returns the length of the run at position `start` of `text`, such as `1234`, `4321` or `aaaa`; at least 1."""
    end = start + 1
    while end < len(text):
        step = ord(text[end]) - ord(text[end - 1])
        if step not in {-1, 0, 1} or step != ord(text[start + 1]) - ord(text[start]):
            break
        end += 1
    return end - start


def _length_of_repetition(text: str, start: int) -> int:
    """Returns how many characters of `text`, from position `start` on, repeat a part that begins earlier in `text`."""
    length = 0
    while start + length < len(text) and text.find(text[start : start + length + 1], 0, start + length) >= 0:
        length += 1
    return length
