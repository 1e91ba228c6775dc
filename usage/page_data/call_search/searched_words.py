r"""The words that a person searches for in prompts and answers: as patterns, and as texts for PostgreSQL's search."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from unicodedata import normalize

# A quote opens a phrase at the beginning of a word only, so that the one in `5"` is a plain character. In a phrase, a
# doubled quote stands for one.
_WORD = re.compile(r'["“„]((?:[^"”]|"")*+)(?:["”]|$)|(\S+)')
_RUN = re.compile(r"[a-z0-9]+|[^\x00-\x7f]+")
MAX_WORDS = 20  # words and phrases of a search; each is searched for in all forms of a body
_MAX_NEEDLES = 6  # of a search; further ones hardly rule anything out
_MAX_FORMS = 12  # of one needle that is not ASCII


@dataclass(frozen=True)
class SearchedWord:
    """A word or a phrase to search for in the prompts and answers of calls.

    The regular expression `pattern` finds it in text without escapes. Upper and lower case, both Unicode forms of
    accents, and all kinds of white space between the words of a phrase are treated as equal.
    """

    text: str
    pattern: re.Pattern[str]

    def needles(self) -> list[list[str]]:
        """Returns lists of short texts, one list for each piece of the word between white space.

        A body that contains the word contains at least one text of each list. The texts are ways to write a part of the
        piece, plain or escaped as in JSON; the database compares them with the body in lower case. There is no list for
        a piece of ASCII punctuation.
        """
        return [forms for part in self.text.split() if (forms := _needle(part))]


def read_words(text: str) -> list[SearchedWord]:
    """Splits the text of a search field into words and phrases; returns the first `MAX_WORDS` of them."""
    return [SearchedWord(word, _pattern(word)) for word in split_words(text)[:MAX_WORDS]]


def split_words(text: str) -> list[str]:
    """Splits the text in a search field into words and "quoted phrases"; returns each of them once.

    A text that has only quotation marks is returned as one word. The result for an empty text is an empty list.
    """
    found = [match[2] or match[1].replace('""', '"').strip() for match in _WORD.finditer(text)]
    return list(filter(None, dict.fromkeys(found))) or list(filter(None, [text.strip()]))


def needles_of(words: Sequence[SearchedWord]) -> list[list[str]]:
    """Returns lists of short texts, so that the database finds bodies fast that may contain all `words`.

    A body that contains all words contains at least one text of each list. At most `_MAX_NEEDLES` lists are returned:
    those with the longest texts, since they rule out the most bodies.
    """
    found = {tuple(forms) for word in words for forms in word.needles()}
    return [list(forms) for forms in sorted(found, key=lambda forms: (-len(forms[0]), forms))[:_MAX_NEEDLES]]


def _pattern(word: str) -> re.Pattern[str]:
    forms = dict.fromkeys((word, normalize("NFC", word), normalize("NFD", word)))
    return re.compile("|".join(r"\s+".join(map(re.escape, form.split())) for form in forms), re.IGNORECASE)


def _needle(part: str) -> list[str]:
    """Returns short texts, of which each body that contains `part`, a piece of a searched word, contains at least one.

    They are for bodies in lower case. If the piece has ASCII letters or digits, the only text is the longest run of
    these. Otherwise the texts are the piece's first two characters in all spellings, plain and escaped as in JSON. The
    result is empty for a piece of ASCII punctuation.
    """
    composed = normalize("NFC", part).lower()
    if plain := [run for run in _RUN.findall(composed) if run.isascii()]:
        return [max(plain, key=len)]
    starts = {run[:2] for form in (composed, normalize("NFD", part)) for run in _RUN.findall(form)[:1]}
    forms = sorted({form for start in starts for form in islice(_cases(start), _MAX_FORMS)})
    return [*forms, *sorted({escaped for form in forms for escaped in _escaped(form)})]


def _cases(text: str) -> Iterator[str]:
    """Yields all spellings of a text in which each character is in upper or in lower case."""
    letters = [sorted({one for one in (letter, letter.lower(), letter.upper()) if len(one) == 1}) for letter in text]
    return map("".join, product(*letters))


def _escaped(text: str) -> list[str]:
    r"""Returns two forms of a text in which every character is escaped as in JSON, such as `\u00e9\u00e8`.

    The second form is for JSON inside a JSON string, with two backslashes before each `u`. A character beyond U+FFFF is
    written as two escapes.
    """
    data = text.encode("utf-16-be", "surrogatepass")
    units = [f"u{data[at]:02x}{data[at + 1]:02x}" for at in range(0, len(data), 2)]
    return ["\\" + between.join(units) for between in ("\\", "\\\\")]
