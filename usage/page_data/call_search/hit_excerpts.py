"""Finds the words around a hit in a prompt or an answer; pure functions without a database."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from usage.page_data.call_search.body_texts import BETWEEN, readable_forms, texts_in
from usage.page_data.call_search.searched_words import SearchedWord

AROUND = 70  # characters before and after a hit
MAX_HIT = 200  # characters of a hit that are shown
MAX_EXCERPTS = 4  # of one call


class ExcerptPiece(NamedTuple):
    """A piece of an excerpt; `is_hit` is true if the search has found the piece."""

    text: str
    is_hit: bool


@dataclass(frozen=True)
class Excerpt:
    """A part of a prompt or of an answer, with the searched words in it; `source` says which of the two.

    The part is not escaped for HTML yet. A prompt or an answer in JSON has several texts, such as its messages:
    `has_more_before` and `has_more_after` say whether the text with this part goes on before and after it.
    """

    source: str
    pieces: Sequence[ExcerptPiece]
    has_more_before: bool
    has_more_after: bool


def find_excerpts(words: Sequence[SearchedWord], bodies: Mapping[str, str]) -> list[Excerpt] | None:
    """Returns the text around the first hit of each word in each body of a call, in at most `MAX_EXCERPTS` excerpts.

    Returns None if one of the words is in none of the bodies. `bodies` maps a name for the page, such as `Prompt`, to a
    stored text. Hits in the texts of a JSON body are shown without JSON's syntax.
    """
    forms_of_bodies = [[_Form(source, text, []) for text in readable_forms(body)] for source, body in bodies.items()]
    # Word by word: a call that lacks a word need not be searched for those after it.
    for word in words:
        found_in = [_add_first_hit(forms, word) for forms in forms_of_bodies]
        if not any(found_in):
            return None
    for forms, (source, body) in zip(forms_of_bodies, bodies.items(), strict=True):
        _move_hits(forms, _Form(source, texts_in(body), []), words)
    return [one for forms in forms_of_bodies for form in forms for one in _excerpts(form, words)][:MAX_EXCERPTS]


class _Form(NamedTuple):
    """A readable form of a stored body, for example with escapes undone, and the places of searched words in it.

    `source` is the name of the body, such as `Prompt`. `hits` are the places, as pairs of start and end in `text`.
    """

    source: str
    text: str
    hits: list[tuple[int, int]]


def _add_first_hit(forms: Sequence[_Form], word: SearchedWord) -> bool:
    """Searches the readable forms of a body for a word; returns whether one of them has it.

    The place of the first hit is added to the `hits` of its form.
    """
    for form in forms:
        if match := word.pattern.search(form.text):
            form.hits.append(match.span())
            return True
    return False


def _move_hits(forms: list[_Form], texts: _Form, words: Sequence[SearchedWord]) -> None:
    """Moves the places of found words from the readable `forms` of a body to `texts`, a form that is easier to read.

    `texts` is the same body without JSON's syntax; it becomes the first of `forms`. Words that it lacks, such as the
    name of a JSON member, keep their places in the other forms. If it has none of `words`, nothing changes.
    """
    others = [word for word in words if not _add_first_hit([texts], word)]
    if not texts.hits:
        return
    for form in forms:
        form.hits.clear()
    for word in others:
        _add_first_hit(forms, word)
    forms.insert(0, texts)


def _excerpts(form: _Form, words: Sequence[SearchedWord]) -> list[Excerpt]:
    """Returns excerpts of a stored body around the searched words; words near each other in one text share an excerpt.

    `form` is a readable form of the body, with the places of the words. An excerpt ends where its text ends: the next
    text, such as the name of a role, says nothing about the word.
    """
    source, text, hits = form
    windows: list[tuple[int, int, bool, bool]] = []
    for start, end in sorted(hits):
        first, last = _bounds(text, start, end)
        begin, stop = max(first, start - AROUND), min(last, min(end, start + MAX_HIT) + AROUND)
        has_before = begin > first
        if windows and begin <= windows[-1][1]:
            begin, before_stop, has_before, _ = windows.pop()
            stop = max(before_stop, stop)
        windows.append((begin, stop, has_before, stop < last))
    pattern = re.compile("|".join(word.pattern.pattern for word in words), re.IGNORECASE)
    return [
        Excerpt(source, _pieces(text[begin:stop], pattern), before, after) for begin, stop, before, after in windows
    ]


def _bounds(text: str, start: int, end: int) -> tuple[int, int]:
    """Returns the start and the end of that text of a body that contains the hit from `start` to `end`.

    `text` is a readable form of the body: its single texts, such as messages, separated by `BETWEEN`.
    """
    last = text.find(BETWEEN, end)
    return text.rfind(BETWEEN, 0, start) + 1, len(text) if last < 0 else last


def _pieces(text: str, pattern: re.Pattern[str]) -> list[ExcerptPiece]:
    pieces, at = [], 0
    for match in pattern.finditer(text):
        pieces += [ExcerptPiece(text[at : match.start()], False), ExcerptPiece(match[0], True)]
        at = match.end()
    pieces.append(ExcerptPiece(text[at:], False))
    return [piece for piece in pieces if piece.text]
