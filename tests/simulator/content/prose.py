"""The words of the simulated model: the same input gives the same answer, and it quotes what it was asked.

Every answer has characters outside ASCII, so that whoever cuts UTF-8 in two is found out.
"""

from dataclasses import dataclass

from tests.simulator.content.tokens import split_tokens
from tests.simulator.wire.faults import Fault

_QUOTED = 160
_HUGE_DELTA = 4096


@dataclass(frozen=True)
class Draft:
    """The text of a simulated answer, in the pieces in which it is streamed.

    `whole` is False if a token limit has cut it short.
    """

    pieces: list[str]
    whole: bool = True

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def tokens(self) -> int:
        return len(self.pieces)

    def limited(self, tokens: int | None) -> "Draft":
        if tokens is None or tokens >= len(self.pieces):
            return self
        return Draft(self.pieces[:tokens], whole=False)


def text_draft(text: str) -> Draft:
    return Draft(split_tokens(text))


def compose(question: str, images: int, earlier_turns: int, fault: Fault, variant: int = 0) -> Draft:
    """Makes the text that the simulated model answers to a question; a fault may set the number of pieces or bytes."""
    if fault.events is not None:
        return Draft([f" ö{number}" for number in range(fault.events)])
    if fault.huge is not None:
        line = "Eine lange Antwort — 0123456789 abcdefghijklmnopqrstuvwxyz ✓\n"
        text = line * (fault.huge // len(line.encode()) + 1)
        return Draft([text[start : start + _HUGE_DELTA] for start in range(0, len(text), _HUGE_DELTA)])
    asked = " ".join(question.split())
    if len(asked) > _QUOTED:
        asked = asked[: _QUOTED - 1] + "…"
    sentences = []
    if images:
        sentences.append(f"I see {images} image{'s' * (images > 1)}.")
    if asked:
        sentences.append(f"You asked: “{asked}”")
    if earlier_turns:
        sentences.append(f"I remember {earlier_turns} earlier message{'s' * (earlier_turns > 1)}.")
    sentences.append("This is a simulated answer — no model was asked and nothing was billed ✓")
    if variant:
        sentences.append(f"(Choice {variant + 1}.)")
    return text_draft(" ".join(sentences))
