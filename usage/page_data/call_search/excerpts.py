"""Finds the words around a hit in a prompt or an answer; pure functions without a database."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from usage.page_data.call_search.body_texts import readable_forms
from usage.page_data.call_search.searched_words import SearchedWord

AROUND = 70  # characters before and after a hit
MAX_HIT = 200  # characters of a hit that are shown
MAX_EXCERPTS = 4  # of one call


class ExcerptPiece(NamedTuple):
    """A piece of an excerpt; `is_hit` is true if it is a part that the search has found."""

    text: str
    is_hit: bool


@dataclass(frozen=True)
class Excerpt:
    """A part of a prompt or of an answer with hits in it; `source` says which of the two. It is not escaped yet.

    `has_more_before` and `has_more_after` say whether the text goes on.
    """

    source: str
    pieces: Sequence[ExcerptPiece]
    has_more_before: bool
    has_more_after: bool


def find_excerpts(words: Sequence[SearchedWord], bodies: Mapping[str, str]) -> list[Excerpt] | None:
    """Returns the text around the first hit of each word in each of a call's bodies; None if a word is in no body.

    `bodies` are the stored texts by their names on the page. At most `MAX_EXCERPTS` excerpts are returned.
    """
    missing = set(words)
    found: list[Excerpt] = []
    for source, body in bodies.items():
        wanted = list(words)
        for text in readable_forms(body):
            hits = [(word, match) for word in wanted if (match := word.pattern.search(text))]
            found += _excerpts(source, text, [match.span() for _, match in hits], words)
            wanted = [word for word in wanted if word not in {word for word, _ in hits}]
            if not wanted:
                break
        missing -= set(words) - set(wanted)
    return None if missing else found[:MAX_EXCERPTS]


def _excerpts(source: str, text: str, hits: list[tuple[int, int]], words: Sequence[SearchedWord]) -> list[Excerpt]:
    """Returns the excerpts around some hits, each given by its start and end; hits near each other share one."""
    windows: list[tuple[int, int]] = []
    for start, end in sorted(hits):
        window = max(0, start - AROUND), min(len(text), min(end, start + MAX_HIT) + AROUND)
        if windows and window[0] <= windows[-1][1]:
            before = windows.pop()
            window = before[0], max(before[1], window[1])
        windows.append(window)
    pattern = re.compile("|".join(word.pattern.pattern for word in words), re.IGNORECASE)
    return [Excerpt(source, _pieces(text[start:end], pattern), start > 0, end < len(text)) for start, end in windows]


def _pieces(text: str, pattern: re.Pattern[str]) -> list[ExcerptPiece]:
    pieces, at = [], 0
    for match in pattern.finditer(text):
        pieces += [ExcerptPiece(text[at : match.start()], False), ExcerptPiece(match[0], True)]
        at = match.end()
    pieces.append(ExcerptPiece(text[at:], False))
    return [piece for piece in pieces if piece.text]
