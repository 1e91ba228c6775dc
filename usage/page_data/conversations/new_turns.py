"""Chooses what is new in each call of a session, for a page that shows all calls; without the database.

Most calls of a session repeat in their request what was said before: the instructions, and the messages of earlier
calls. `NewTurnsReader` takes the conversations of the calls in order, and returns of each only what is new.

Invariants: of a request that was logged whole, the last turn is new, even if an earlier call had the same one. The text
on one page is bounded, whatever the bodies contain; a turn for which there is no room is left out, and never empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from usage.page_data.conversations.cut_json import split_cut
from usage.page_data.conversations.reader import MAX_MARKDOWN_CHARACTERS
from usage.page_data.conversations.turns import Conversation, Part, PartKind, Turn

MAX_TURNS = 8  # of a request, the newest ones; and of an answer, the first ones
MAX_TURN_CHARACTERS = 4000
MAX_PAGE_CHARACTERS = 200_000
PART_CHARACTERS = 200  # a shorter part counts as this many characters, since each part takes time to draw
MAX_LINKS = 20  # of one part
_INSTRUCTIONS = ("system", "developer")


@dataclass(frozen=True)
class NewTurns:
    """The new turns in one call: those of its request that no earlier call had, and those of its answer.

    `is_shortened` is true if turns or texts were left out, because they are too many or too long for the page.
    """

    asked: list[Turn]
    answered: list[Turn]
    is_shortened: bool
    was_cut: bool  # when the call was logged


class NewTurnsReader:
    """Reader of the conversations of a session's calls, in order; it finds out which turns are new in each call.

    If `is_start` is false, earlier calls of the session were not read. Then the first call's new turns are those of its
    last exchange. But if its request continues a stored response, and so repeats no earlier turns, all its turns are
    new.
    """

    def __init__(self, *, is_start: bool) -> None:
        self._seen: Counter[int] = Counter()  # how often one call at most had a part, by the part's hash
        self._is_start = is_start
        self._room = MAX_PAGE_CHARACTERS
        self._markdown_room = MAX_MARKDOWN_CHARACTERS
        self._is_shortened = False

    @property
    def is_full(self) -> bool:
        """True if the page has no room for the texts of further calls."""
        return self._room <= 0

    def read(self, conversation: Conversation) -> NewTurns:
        """Returns the new turns of the next call's conversation, shortened to the room on the page."""
        self._is_shortened = False
        asked, answered = self._new_turns(conversation), conversation.answered
        self._is_start = True
        self._is_shortened = self._is_shortened or max(len(asked), len(answered)) > MAX_TURNS
        asked = list(filter(None, map(self._shortened, asked[-MAX_TURNS:])))
        answered = list(filter(None, map(self._shortened, answered[:MAX_TURNS])))
        was_cut = bool(conversation.request.cut_bytes or conversation.response.cut_bytes)
        return NewTurns(asked, answered, self._is_shortened, was_cut)

    def _new_turns(self, conversation: Conversation) -> list[Turn]:
        """Returns the new turns of a call's request: those with parts that no earlier call had, and only these parts.

        If nothing but instructions is new, and the logged request was not cut, the last turn is returned as well, since
        the same question may be asked again. All parts of the call are remembered, to recognise them in later calls.
        """
        turns = [*conversation.earlier, *conversation.asked]
        already_shown = 0 if self._is_start or conversation.continues else len(conversation.earlier)
        counts: Counter[int] = Counter()
        found = []
        for number, turn in enumerate(turns):
            # A request that continues a stored response does not repeat what was said, except for its instructions.
            is_new = bool(conversation.continues) and turn.role not in _INSTRUCTIONS
            parts = [part for part in turn.parts if self._count(counts, turn, part) or is_new]
            if parts and number >= already_shown:
                found.append(replace(turn, parts=parts))
            # If the oldest turn that was read is new, those before it, which were too many to read, are new as well.
            left_out = number < already_shown or (number == 0 and conversation.left_out > 0)
            self._is_shortened = self._is_shortened or (left_out and bool(parts))
        # The same question may be asked again. In a request that was cut, the last turn is mostly an old one.
        is_repeated = all(turn.role in _INSTRUCTIONS for turn in found) and not conversation.request.cut_bytes
        if is_repeated and turns and turns[-1].role not in _INSTRUCTIONS:
            found.append(turns[-1])
        for turn in conversation.answered:
            for part in turn.parts:
                self._count(counts, turn, part)
        self._seen |= counts
        return found

    def _count(self, counts: Counter[int], turn: Turn, part: Part) -> bool:
        """Counts a part of the present call in `counts`; returns whether no earlier call had this part so often."""
        mark = hash((turn.role, *_marks(part)))
        counts[mark] += 1
        return counts[mark] > self._seen[mark]

    def _shortened(self, turn: Turn) -> Turn | None:
        """Returns a copy of a turn, cut to `MAX_TURN_CHARACTERS` and to the room on the page; None if there is no room.

        The characters of the copy are subtracted from the room on the page. If anything is cut, `_is_shortened` becomes
        true.
        """
        room = min(MAX_TURN_CHARACTERS, self._room)
        parts = []
        for part in turn.parts:
            if room <= 0:
                self._is_shortened = True
                break
            fitted, used = self._fitted(part, room)
            room -= used
            self._room -= used
            parts.append(fitted)
        return replace(turn, parts=parts) if parts or not turn.parts else None

    def _fitted(self, part: Part, room: int) -> tuple[Part, int]:
        """Returns a copy of a part, cut to about `room` characters, and how many characters the copy counts as.

        The copy counts as at least `PART_CHARACTERS`. Results of tool calls are cut, too, and links beyond `MAX_LINKS`
        are left out; if anything is cut, `_is_shortened` becomes true. Beyond the page's room for Markdown, the copy is
        plain text.
        """
        text, results, links = part.text[:room], [], part.links[:MAX_LINKS]
        used = max(PART_CHARACTERS, len(text) + sum(len(link.text) + len(link.url) for link in links))
        for result in part.results:
            if used >= room:
                break
            fitted, its_use = self._fitted(result, room - used)
            results.append(fitted)
            used += its_use
        is_whole = (len(text), len(results), len(links)) == (len(part.text), len(part.results), len(part.links))
        self._is_shortened = self._is_shortened or not is_whole
        if part.is_markdown:
            self._markdown_room -= len(text)
        text += "…" if len(text) < len(part.text) else ""
        is_markdown = part.is_markdown and self._markdown_room >= 0
        return replace(part, text=text, results=results, links=links, is_markdown=is_markdown), used


def _marks(part: Part) -> Iterator[str]:
    """Yields texts that together identify a part of a turn, to recognise it when a later request sends it again.

    They leave out all that may differ then: ids, white space except single spaces, and remarks that a text was cut.
    """
    yield part.kind
    if part.kind is PartKind.TOOL_CALL:
        yield part.title
    yield " ".join(split_cut(part.text)[0].split())
    for link in part.links:
        yield link.url or link.text
    for result in part.results:
        yield from _marks(result)
