"""All calls of the bill test: the usual and the rare ones, in one list."""

from __future__ import annotations

from tests.support.bills import rare_calls, usual_calls

CASES = (*usual_calls.CASES, *rare_calls.CASES)
