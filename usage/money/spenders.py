"""The type for a spender: an access key, or a team with all its keys, which has budgets and limits and spends them."""

from __future__ import annotations

from typing import Literal, NamedTuple

SpenderKind = Literal["key", "team"]


class Spender(NamedTuple):
    """An access key, or a team with all its keys, which spends budgets: its kind and name.

    A key and a team may have the same name.
    """

    kind: SpenderKind
    name: str
