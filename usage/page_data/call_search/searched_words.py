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

    The regular expression `pattern` finds it in text without escapes: in upper or lower case, with accents in either
    form of Unicode, and with any white space between the words of a phrase.
    """

    text: str
    pattern: re.Pattern[str]

    def needles(self) -> list[list[str]]:
        """Returns lists of short texts that the database looks for, to rule out bodies that cannot contain this word.

        A word is divided at white space; each piece gives one list. A body that contains the word has at least one text
        of each list: the piece may be plain in it, or as JSON escapes it. The body's ASCII letters must be in lower
        case. The result is empty if the word has only ASCII punctuation.
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
    """Returns at most `_MAX_NEEDLES` lists of texts that the database looks for, to rule out bodies without the words.

    These are the lists of `SearchedWord.needles` with the longest texts, since the longest texts rule out the most
    bodies. A body is ruled out if it lacks every text of at least one list.
    """
    found = {tuple(forms) for word in words for forms in word.needles()}
    return [list(forms) for forms in sorted(found, key=lambda forms: (-len(forms[0]), forms))[:_MAX_NEEDLES]]


def _pattern(word: str) -> re.Pattern[str]:
    forms = dict.fromkeys((word, normalize("NFC", word), normalize("NFD", word)))
    return re.compile("|".join(r"\s+".join(map(re.escape, form.split())) for form in forms), re.IGNORECASE)


def _needle(part: str) -> list[str]:
    """Returns short texts from a piece of a searched word; every body with this piece contains at least one of them.

    The body's ASCII letters must be in lower case. If the piece has ASCII letters or digits, the only text is the
    longest run of them. Otherwise the texts are the first two non-ASCII characters in upper and lower case, plain and
    escaped. The result is empty if the piece has only ASCII punctuation, which JSON may escape.
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
