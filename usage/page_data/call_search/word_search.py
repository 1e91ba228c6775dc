"""Searches for words in the stored bodies of calls, in the order of a walk, until its time is up.

PostgreSQL reads the bodies, and chooses those with all needles (`searched_words.needles_of`), so that few bodies are
sent to this process, which also serves calls. This module then decides whether these bodies match.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

from django.db import connection

from usage.models import RequestBody
from usage.page_data.call_search.hit_excerpts import Excerpt, find_excerpts
from usage.page_data.call_search.scan_merging import Walk
from usage.page_data.call_search.searched_words import needles_of, read_words

FIRST_BATCH, MAX_BATCH, MIN_BATCH = 100, 4000, 20  # bodies that one statement reads
BATCH_SECONDS = 0.05  # after a batch that took less, the next one is larger; otherwise it is smaller
READ_AT_ONCE = 10  # bodies that come into this process: 5 MB at most


class WordSearch:
    """A search for words in stored prompts and answers; a `Walk` finds the calls that match all other filters.

    `found` maps the ids of the calls that contain all words to excerpts around the words, in the order of the walk.
    `reached` is the id of the last call that was searched; None if all calls were searched.
    """

    def __init__(self, text: str, walk: Walk) -> None:
        self._words = read_words(text)
        self._needles = needles_of(self._words)
        self._walk = walk
        self._size = FIRST_BATCH
        self.found: dict[UUID, list[Excerpt]] = {}
        self.reached: UUID | None = None

    def go_on(self, wanted: int, deadline: float) -> None:
        """Continues the search until `found` has `wanted` calls, or no calls are left.

        Ends at the latest when `time.monotonic()` reaches `deadline`; but at least one batch of calls is begun.
        """
        while len(self.found) < wanted:
            self._walk.read(self._size, deadline)
            if not self._search_all(self._walk.take(), wanted, deadline):
                return
            self.reached = self._walk.border
            if self.reached is None or time.monotonic() >= deadline:
                return

    def _search_all(self, ids: Sequence[UUID], wanted: int, deadline: float) -> bool:
        """Searches the bodies of the calls `ids`, batch by batch; returns False if it stopped before the last call.

        It stops when `wanted` calls are found, or at `deadline`.
        """
        at = 0
        while at < len(ids):
            batch = ids[at : at + self._size]
            at += len(batch)
            if not self._search(batch, wanted, deadline) or (time.monotonic() >= deadline and at < len(ids)):
                return False
        return True

    def _search(self, batch: Sequence[UUID], wanted: int, deadline: float) -> bool:
        """Searches the bodies of one batch of calls; adds matching calls to `found`. Returns False if it stopped early.

        It stops when `wanted` calls are found, or at `deadline`.
        """
        candidates = self._choose(batch)
        for at in range(0, len(candidates), READ_AT_ONCE):
            some = candidates[at : at + READ_AT_ONCE]
            bodies = RequestBody.objects.in_bulk(some)
            for self.reached in some:
                body = bodies.get(self.reached)  # it may have been pruned since
                texts = {"Prompt": body.request_body, "Answer": body.response_body} if body else {}
                excerpts = find_excerpts(self._words, texts)
                if excerpts is not None:
                    self.found[self.reached] = excerpts
                if len(self.found) >= wanted:
                    return False
                if time.monotonic() >= deadline and self.reached != candidates[-1]:
                    return False
        self.reached = batch[-1]
        return True

    def _choose(self, batch: Sequence[UUID]) -> list[UUID]:
        """Returns the ids of those calls in a batch whose bodies may contain all words, in the order of the batch.

        The other calls certainly do not: the database has searched for short pieces of the words (`needles_of`). If its
        query takes less than `BATCH_SECONDS`, the next batch is made larger, otherwise smaller.
        """
        # ASCII's rules of upper and lower case are by far the fastest, and PostgreSQL evaluates a subquery with OFFSET
        # once: so each body is read and decompressed once, however many needles there are.
        having = " AND ".join(f"({' OR '.join(['strpos(texts, %s) > 0'] * len(forms))})" for forms in self._needles)
        query = f"""
            SELECT request_id FROM (
                SELECT request_id, lower((request_body || chr(10) || response_body) COLLATE "C") AS texts
                FROM usage_requestbody WHERE request_id = ANY(%s) OFFSET 0
            ) AS body WHERE {having or "TRUE"}
        """
        started = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute(query, [list(batch), *(form for forms in self._needles for form in forms)])
            chosen = {request_id for (request_id,) in cursor.fetchall()}
        is_quick = time.monotonic() - started < BATCH_SECONDS
        self._size = min(self._size * 2, MAX_BATCH) if is_quick else max(self._size // 2, MIN_BATCH)
        return [call_id for call_id in batch if call_id in chosen]


def first_call_with_body(since: UUID | None) -> UUID:
    """Returns the id of the oldest call whose prompt or answer is stored; calls with an id below `since` are left out.

    If there is no such call, returns the highest possible id.
    """
    query = "SELECT request_id FROM usage_requestbody WHERE request_id >= %s ORDER BY request_id LIMIT 1"
    with connection.cursor() as cursor:
        cursor.execute(query, [since or UUID(int=0)])
        row = cursor.fetchone()
    return row[0] if row else UUID(int=2**128 - 1)
