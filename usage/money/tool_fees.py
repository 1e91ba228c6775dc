"""The prices that OpenAI charges beside a model's tokens: the fees of hosted tools, and discounts by request.

Prices are those of developers.openai.com/api/docs/pricing, "Built-in tools" (read 2026-11-28), unless a comment names
another page. They are dollars, and do not depend on the service tier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from usage.answers.tool_use import PREVIEW_TOOL
from usage.call_record import CallRecord
from usage.models import CostKind
from usage.prices.published_prices import ModelRates

TOOLS_SOURCE = "OpenAI's tool prices of 2026-11-28"

WEB_SEARCH = Decimal("0.01")  # "Web search (all models)", for each search
PREVIEW_SEARCH = Decimal("0.025")  # "Web search preview (non-reasoning models)"; for reasoning models as above
FILE_SEARCH = Decimal("0.0025")  # for each `file_search_call` of the Responses API
# Models of chat completions that search in each call, by the beginning of their names.
SEARCH_MODELS = {
    "gpt-4o-search-preview": PREVIEW_SEARCH,
    "gpt-4o-mini-search-preview": PREVIEW_SEARCH,
    "gpt-5-search-api": WEB_SEARCH,
}
# "Containers", dollars for 20 minutes by memory: billed by the minute, at least 5 minutes a session.
CONTAINERS = {"1g": Decimal("0.03"), "4g": Decimal("0.12"), "16g": Decimal("0.48"), "64g": Decimal("1.92")}
CONTAINER_MINUTES, CONTAINER_LEAST_MINUTES = 20, 5
# "For gpt-4o-mini and gpt-4.1-mini with the non-preview web search tool, search content tokens are billed as a fixed
# block of 8,000 input tokens per call."
BLOCK_MODELS = ("gpt-4o-mini", "gpt-4.1-mini")
BLOCK_TOKENS = 8000
# Tokens of background responses, by their completion window: 30 and 40 percent below the default tier
# (developers.openai.com/api/docs/guides/flex-processing, read 2026-11-28).
WINDOW_FACTORS = {"2h": Decimal("0.7"), "8h": Decimal("0.6")}
# The image generation tool's model, if the response does not name it (SDK, `responses.tool.ImageGeneration`).
# Another one's price stands for that of a model without a price: gpt-image-2 and its successors cost the same.
DEFAULT_IMAGE_MODEL = "gpt-image-2.6-sunburst"
LISTED_IMAGE_MODEL = "gpt-image-2.5-sunburst"

NO_FEE = Decimal(0)
_OPENAI_NAMES = ("gpt-", "chatgpt-", "codex-", "computer-use", "o1", "o3", "o4", "ft:gpt-", "ft:o")
_NOT_REASONING = ("gpt-4", "gpt-3.5", "chatgpt-4o", "gpt-5-chat", "ft:gpt-4", "ft:gpt-3.5")
_BY_CHARACTERS = ("tts-1",)
_BY_PICTURES = ("dall-e-",)


@dataclass(slots=True)
class Line:
    """One line of a call's bill before the dollars are computed: `count` units, at `rate` dollars for each `per` units.

    `rate` is None if it is not known. `model`, `source` (of the price) and `kind` (of the cost) are empty if they are
    those of the whole bill.
    """

    unit: str
    count: int | float
    rate: Decimal | None
    per: int = 1_000_000
    model: str = ""
    source: str = ""
    kind: str = ""


def is_billed_by_characters(model: str) -> bool:
    """Returns whether a text-to-speech model is billed by the characters of its text instead of tokens."""
    return model.lower().startswith(_BY_CHARACTERS)


def is_billed_by_pictures(model: str) -> bool:
    """Returns whether a model of OpenAI's is billed by the number of its pictures instead of tokens."""
    return model.lower().startswith(_BY_PICTURES)


def in_window(price: ModelRates, window: str | None) -> ModelRates:
    """Returns `price` less the discount for a background response's completion window, such as `2h`.

    Without a window, and in service tiers other than the default one, the price is returned unchanged.
    """
    factor = WINDOW_FACTORS.get(window or "")
    if factor is None or price.tier != "default":
        return price
    return price.times(factor)


def tool_lines(row: CallRecord, model: str, price: ModelRates) -> Iterator[Line]:
    """Yields the lines of a call's bill for web searches, file searches and containers.

    `model` is the call's model, in lower case. A fee for searches that the administrator has set replaces the listed or
    built-in fee. If the fee of another vendor than OpenAI is not known, the line costs $0, as an estimate.

    Some models are billed at least `BLOCK_TOKENS` input tokens for each web search. If the call states fewer, there is
    a line for these tokens.
    """
    used = row.get("other_usage") or {}
    is_openais = _is_openais(model)
    tool, fee = used.get("search_tool"), _fee_of_search_model(model, price)
    if fee is not None:
        yield Line("web_search", 1, fee, per=1)
    elif searches := row.get("web_searches") or 0:
        fee = _search_fee(model, price, tool) if is_openais else price.per_web_search
        yield _fee_line("web_search", searches, fee)
        is_block = is_openais and tool != PREVIEW_TOOL and _is_billed_by_blocks(model)
        if is_block and (stated := row.get("input_tokens") or 0) < searches * BLOCK_TOKENS:
            rate = price.rate("input", stated)
            yield Line("search_content", searches * BLOCK_TOKENS, rate, kind=CostKind.ESTIMATED)
    if file_searches := used.get("file_searches"):
        if is_openais:
            fee = FILE_SEARCH if price.per_file_search is None else price.per_file_search
            yield Line("file_search", file_searches, fee, per=1, source=TOOLS_SOURCE)
        else:
            yield _fee_line("file_search", file_searches, price.per_file_search)
    for size, rate in CONTAINERS.items():
        if minutes := CONTAINER_LEAST_MINUTES * (used.get("containers") or []).count(size):
            kind = CostKind.ESTIMATED  # a session may last longer, or have begun with an earlier call
            known, source = (rate, TOOLS_SOURCE) if is_openais else (NO_FEE, "")
            yield Line(f"container_{size}", minutes, known, CONTAINER_MINUTES, source=source, kind=kind)


def _fee_line(unit: str, count: int, fee: Decimal | None) -> Line:
    """Makes the line of a bill for `count` searches at `fee` dollars each.

    If the fee is not known (None), the line costs $0, and is marked as estimated.
    """
    return Line(unit, count, NO_FEE, per=1, kind=CostKind.ESTIMATED) if fee is None else Line(unit, count, fee, per=1)


def highest_fees(
    model: str, price: ModelRates, searches: int, file_searches: int, containers: Sequence[str]
) -> Decimal:
    """Returns the highest possible fees, in dollars, for web searches, file searches and containers of one call.

    The most expensive search tool counts. `containers` has the memory size of each container, such as `4g`. The fee of
    a model that searches in each call is always included.
    """
    fee = _fee_of_search_model(model, price)
    if fee is None and not (searches or file_searches or containers):
        return Decimal(0)
    if fee is not None:
        dollars = fee
    elif _is_openais(model):
        fees = [_search_fee(model, price, tool) for tool in (None, PREVIEW_TOOL)]
        dollars = searches * max(fees)
        if _is_billed_by_blocks(model):
            dollars += searches * BLOCK_TOKENS * (price.rate("input", 0) or Decimal(0)) / 1_000_000
    else:
        dollars = searches * (price.per_web_search or Decimal(0))
    dollars += file_searches * (FILE_SEARCH if price.per_file_search is None else price.per_file_search)
    # Containers are taken to run for `CONTAINER_MINUTES`.
    return dollars + sum((CONTAINERS[size] for size in containers), Decimal(0))


def _is_openais(model: str) -> bool:
    """Returns whether the model with this name (in lower case) is OpenAI's own."""
    return model.startswith(_OPENAI_NAMES) and not model.startswith("gpt-oss")


def _is_billed_by_blocks(model: str) -> bool:
    """Returns whether this model is billed `BLOCK_TOKENS` input tokens for the content of each web search."""
    return model.removeprefix("ft:").startswith(BLOCK_MODELS)


def _fee_of_search_model(model: str, price: ModelRates) -> Decimal | None:
    """Returns the dollars for one search by a model that searches the web in each call; None for other models.

    A fee that the administrator has set replaces the built-in one.
    """
    fee = _built_in_search_fee(model)
    # The list's fee may be that of the model's family, which searches for less.
    return price.per_web_search if fee is not None and price.has_own_search_fee else fee


@lru_cache(maxsize=1024)
def _built_in_search_fee(model: str) -> Decimal | None:
    """Returns the dollars for one search by a model in `SEARCH_MODELS`; None for other models.

    Results are cached, since each call with a budget needs the fee.
    """
    return next((fee for name, fee in SEARCH_MODELS.items() if model.startswith(name)), None)


def _search_fee(model: str, price: ModelRates, tool: str | None) -> Decimal:
    """Returns the dollars for one web search with a model of OpenAI's; `tool` is the type of the search tool.

    It is the first of these fees that exists: the one that the administrator has set; for the preview tool with a model
    that does not reason, its built-in fee; the one in the price list; the built-in fee.
    """
    if price.has_own_search_fee and price.per_web_search is not None:
        return price.per_web_search
    if tool == PREVIEW_TOOL and model.startswith(_NOT_REASONING):
        return PREVIEW_SEARCH
    return WEB_SEARCH if price.per_web_search is None else price.per_web_search
