"""Reads the use of hosted tools (searches, pictures, containers), which upstream bills beside the usage object.

By the SDK's types, a response repeats its `tools`, has an item in `output` for each call of a tool, and may state
`tool_usage` with the tokens of pictures and the number of billed searches. An answer with an SVG picture states
`svg_usage`: the tokens of the model that has written the picture.

Of upstream's texts, only the names of models, and words that are known here, are kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from usage.answers.tokens import is_count, whole_count
from usage.call_record import OtherUsage

PREVIEW_TOOL = "web_search_preview"
SEARCH_TOOL = "web_search"
CONTAINER_SIZES = ("1g", "4g", "16g", "64g")  # of memory; the first is upstream's default
# The tools that run in containers: the type of their items, their own type, and their member with the container.
CONTAINER_TOOLS = (("code_interpreter_call", "code_interpreter", "container"), ("shell_call", "shell", "environment"))
BEGIN_EVENT, ITEM_EVENT = "response.output_item.added", "response.output_item.done"
PICTURE_EVENT = "response.image_generation_call.completed"
BILLED_ITEMS = {"web_search_call", "file_search_call", "image_generation_call"}
MAX_ITEMS = 1000  # of one response; further ones are not read
MAX_KEPT = 100  # containers, and models of SVG pictures
MAX_SEARCHES = 10**6
# The counts in a usage object of pictures, and in the objects inside it.
_COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
_DETAILS = ("input_tokens_details", "output_tokens_details", "cached_tokens_details")
_NOT_MADE = {"failed", "in_progress"}  # statuses of items
MOST_PICTURE_TOKENS = 16_384  # more than any picture has that OpenAI's models read
# More than any picture has that OpenAI's image models make: the largest square of gpt-image-2 in high quality has
# 23,719. Of the qualities above it, no numbers are published.
MOST_MADE_TOKENS = 24_576
# Tokens of a picture of the first image models whose usage upstream does not state: of a square one, and of a wider or
# taller one, by quality. Source: developers.openai.com/api/docs/guides/image-generation, "Calculating costs".
FIRST_MODELS = ("gpt-image-1", "chatgpt-image-")
TOKENS_BY_QUALITY = {"low": (272, 408), "medium": (1056, 1584), "high": (4160, 6240)}
# Those of newer ones follow from the numbers of patches on the sides and from the area. Source: the formula of OpenAI's
# cost calculator, as quoted in community.openai.com/t/gpt-image-2-output-pricing-calculator/1382699.
PATCHES_BY_QUALITY = {"low": 16, "medium": 48, "high": 96}
# Models from gpt-image-2.6 on need three to four times as many at low and medium quality, and at most those of high
# (docs.laozhang.ai/ja/api-capabilities/gpt-image-2-6). All were read on 2026-11-29.
FRUGAL_MODELS = re.compile(r"gpt-image-2(?:\.5)?(?:-|$)")
LAVISH_FACTOR = 4
DEAREST_QUALITIES = {"xhigh", "max"}
KNOWN_QUALITIES = {*TOKENS_BY_QUALITY, *PATCHES_BY_QUALITY, *DEAREST_QUALITIES}
_UNKNOWN_QUALITY = "high"  # also `auto`: an estimate is rather too high than too low
_SIZE = re.compile(r"([0-9]{2,4})x([0-9]{2,4})")


class ToolUse:
    """The use of hosted tools, such as web searches, by one response, as far as upstream's answer has shown it."""

    def __init__(self) -> None:
        self._searches = 0  # billed searches of the web
        self._begun: dict[str, str] = {}  # the type of each billed item that a stream has begun and not ended, by id
        self._file_searches = 0
        self._containers: dict[str, set[str]] = {}  # the types of the items whose tools ran in each container, by id
        self._pictures: list[int] = []  # the estimated tokens of each picture that is complete
        self._svg: list[dict[str, object]] = []
        self._image_usage: dict[str, object] = {}
        self._tools: list[Mapping[str, object]] = []

    @classmethod
    def of_response(cls, response: Mapping[str, object]) -> ToolUse:
        """Makes a `ToolUse` from a response of upstream's: counts how much the response has used each hosted tool.

        The response may be unfinished: it then lists its configured tools, but not yet its whole output.
        """
        use = cls()
        use._tools = _objects(response.get("tools"))
        for item in _objects(response.get("output")):
            use.read_item(item)
        stated = response.get("tool_usage")
        if isinstance(stated, dict):
            searched, pictures = stated.get("web_search"), stated.get("image_gen")
            if isinstance(searched, dict) and is_count(count := searched.get("num_requests")):
                use._searches = min(whole_count(count), MAX_SEARCHES)
            if isinstance(pictures, dict) and any(whole_count(pictures.get(name)) for name in _COUNTS):
                use._image_usage = _counts(pictures)
        return use

    @property
    def searches(self) -> int:
        """The number of billed web searches. In a stream, a search counts as soon as it begins."""
        return self._searches + self._count_begun("web_search_call")

    def read_event(self, kind: str, event: Mapping[str, object]) -> None:
        """Counts the use of a hosted tool, if an event of a stream reports that a tool call begins or ends."""
        item = event.get("item")
        if kind == BEGIN_EVENT and isinstance(item, dict):
            if (begun := _text(item, "type")) in BILLED_ITEMS and len(self._begun) < MAX_ITEMS:
                self._begun[_text(item, "id")] = begun
            self._read_container(item)
        elif kind == PICTURE_EVENT:
            self._begun.pop(_text(event, "item_id"), None)
            self._add_picture(event)
        elif kind == ITEM_EVENT and isinstance(item, dict) and item.get("type") != "image_generation_call":
            self._begun.pop(_text(item, "id"), None)
            self.read_item(item)  # the events of pictures are mostly too large to be read

    def read_item(self, item: Mapping[str, object]) -> None:
        """Counts the use of a hosted tool that a complete output item of a response reports; ignores other items."""
        kind = item.get("type")
        if kind == "web_search_call":
            self._searches += _is_billed_search(item)
        elif kind == "file_search_call":
            self._file_searches += _text(item, "status") not in _NOT_MADE
        elif kind == "image_generation_call" and _text(item, "status") not in _NOT_MADE:
            self._add_picture(item)
            self.read_svg(item.get("svg_usage"))
        else:
            self._read_container(item)

    def read_svg(self, usage: object) -> None:
        """Stores the use of a model that has drawn an SVG picture: the model's name and its token counts.

        `usage` is the member `svg_usage` of the answer or item with the picture. It is ignored if it names no model,
        and after `MAX_KEPT` pictures.
        """
        if isinstance(usage, dict) and len(self._svg) < MAX_KEPT and isinstance(usage.get("model"), str):
            self._svg.append({**_counts(usage), "model": usage["model"]})

    def other_usage(self) -> OtherUsage:
        """Returns the use of hosted tools as the column `other_usage` of the call's row stores it; may be empty.

        For web searches, only the type of their tool is included, since their number has a column of its own.
        """
        found: OtherUsage = {}
        begun = self._count_begun("image_generation_call")
        if self._image_usage or self._pictures or begun:
            unknown = begun * tokens_of_picture(self._image_model, "", "")
            found["image_tokens"] = self._image_usage or {"output_tokens": sum(self._pictures) + unknown}
            if not self._image_usage:
                found["image_tokens_estimated"] = True
            if self._image_model:
                found["image_model"] = self._image_model
        if self._svg:
            found["svg"] = self._svg
        if self.searches:
            found["search_tool"] = self._search_tool()
        if file_searches := self._file_searches + self._count_begun("file_search_call"):
            found["file_searches"] = file_searches
        if self._containers:
            found["containers"] = [self._container_size(kinds) for kinds in self._containers.values()]
        return found

    @property
    def _image_model(self) -> str:
        """The model that the response's configured image generation tool names; empty if there is none."""
        return _text(self._tool("image_generation"), "model")

    def _count_begun(self, kind: str) -> int:
        return sum(one == kind for one in self._begun.values())

    def _add_picture(self, picture: Mapping[str, object]) -> None:
        """Counts a picture that the image generation tool has made, with an estimate of the picture's tokens.

        `picture` is the picture's output item, or the event that reports the picture as complete. After `MAX_ITEMS`
        pictures, nothing is counted.
        """
        if len(self._pictures) < MAX_ITEMS:
            tokens = tokens_of_picture(self._image_model, _text(picture, "quality"), _text(picture, "size"))
            self._pictures.append(tokens)

    def _read_container(self, item: Mapping[str, object]) -> None:
        """Counts the container in which a tool ran, if an output item names one. Each container counts once."""
        kind = _text(item, "type")
        place: object = {"code_interpreter_call": item, "shell_call": item.get("environment")}.get(kind)
        container_id = place.get("container_id") if isinstance(place, dict) else None
        if not isinstance(container_id, str) or not container_id:
            return
        if container_id in self._containers or len(self._containers) < MAX_KEPT:
            self._containers.setdefault(container_id, set()).add(kind)

    def _search_tool(self) -> str:
        """Returns the type of the web search tool whose fee applies to the response's searches.

        The fee of the preview tool applies only if all configured search tools are preview tools.
        """
        kinds = {_text(tool, "type") for tool in self._tools}
        searching = {kind for kind in kinds if kind.startswith(SEARCH_TOOL)}
        # Every model can search with the newer tool.
        only_preview = searching and all(kind.startswith(PREVIEW_TOOL) for kind in searching)
        return PREVIEW_TOOL if only_preview else SEARCH_TOOL

    def _container_size(self, kinds: set[str]) -> str:
        """Returns the memory size, such as `4g`, of a container in which the tools of the item types `kinds` ran.

        It is the largest one that the configured tools of these types state, or else the default. If none of these
        tools is configured, the largest one of all tools counts.
        """
        configured = [(item, tool, member) for item, tool, member in CONTAINER_TOOLS if self._tool(tool)]
        own = [one for one in configured if one[0] in kinds]
        places = [self._tool(tool).get(member) for _, tool, member in own or configured]
        stated = {_text(place, "memory_limit") for place in places if isinstance(place, dict)}
        return max(stated.intersection(CONTAINER_SIZES), key=CONTAINER_SIZES.index, default=CONTAINER_SIZES[0])

    def _tool(self, kind: str) -> Mapping[str, object]:
        """Returns the first of the response's configured tools with the type `kind`; an empty dict if there is none."""
        return next((tool for tool in self._tools if tool.get("type") == kind), {})


def distinct_qualities(values: Iterable[object]) -> set[str]:
    """Returns the different qualities among the values of a request's `quality`; all unknown ones are one, "".

    All unknown qualities cost the same, and a request may state thousands.
    """
    return {quality if (quality := str(value)) in KNOWN_QUALITIES else "" for value in values}


def tokens_of_picture(model: str, quality: str, size: str) -> int:
    """Estimates how many output tokens upstream bills for a picture that a model has made.

    `size` is in pixels, such as `1024x1536`. An unknown model or quality counts as an expensive one. An unknown size
    counts as 1024x1024 or, for the first image models, as a larger one.
    """
    if model.startswith(FIRST_MODELS):
        by_shape = TOKENS_BY_QUALITY.get(quality, TOKENS_BY_QUALITY[_UNKNOWN_QUALITY])
        return by_shape[size != "1024x1024"]
    if quality in DEAREST_QUALITIES:
        return MOST_MADE_TOKENS
    sides = _SIZE.fullmatch(size)
    width, height = (int(sides[1]), int(sides[2])) if sides else (1024, 1024)
    high = _tokens_by_patches(PATCHES_BY_QUALITY["high"], width, height)
    tokens = _tokens_by_patches(PATCHES_BY_QUALITY.get(quality, PATCHES_BY_QUALITY[_UNKNOWN_QUALITY]), width, height)
    return min(tokens if FRUGAL_MODELS.match(model) else LAVISH_FACTOR * tokens, high, MOST_MADE_TOKENS)


def _tokens_by_patches(patches: int, width: int, height: int) -> int:
    """Returns how many tokens a picture of `width` by `height` pixels has, by OpenAI's formula.

    The formula divides the picture into a grid; `patches` is the number of its fields along the longer side.
    """
    longer, shorter = max(width, height), min(width, height)
    on_shorter = max((2 * patches * shorter + longer) // (2 * longer), 1)
    return math.ceil(patches * on_shorter * (2_000_000 + width * height) / 4_000_000)


def _is_billed_search(item: Mapping[str, object]) -> bool:
    """Returns whether a `web_search_call` item is billed: searches are, opening or searching a page is not."""
    # The source is OpenAI's pricing page.
    action = item.get("action")
    return not isinstance(action, dict) or _text(action, "type") in {"", "search"}


def _counts(usage: Mapping[str, object]) -> dict[str, object]:
    """Returns a copy of a usage object with only its known members: counts, and objects that split counts by kind."""
    found: dict[str, object] = {name: count for name in _COUNTS if is_count(count := usage.get(name))}
    for name in _DETAILS:
        if isinstance(details := usage.get(name), dict):
            known = ((kind, count) for kind, count in list(details.items())[:10] if kind.isidentifier())
            found[name] = {kind[:50]: count for kind, count in known if is_count(count)}
    return found


def _objects(values: object) -> list[Mapping[str, object]]:
    """Returns the JSON objects in a list, at most `MAX_ITEMS`; an empty list if `values` is no list."""
    return [value for value in values[:MAX_ITEMS] if isinstance(value, dict)] if isinstance(values, list) else []


def _text(value: Mapping[str, object], name: str) -> str:
    """Returns the string in the member `name` of a JSON object; an empty text if there is none."""
    found = value.get(name)
    return found if isinstance(found, str) else ""
