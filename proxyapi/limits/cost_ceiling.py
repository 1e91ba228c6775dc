"""Estimates an upper bound of what a call can use (tokens, images, …) from its body, before it is sent upstream.

The bound is meant to be high enough that no budget is exceeded. For facts that the body does not state, it assumes:

* text has half a token for each byte of ordinary language, and one token for any other byte
  (`proxyapi.limits.request_content`). Images, sound and files that the body contains as base64 are not counted as text;
* an image has the highest number of tokens that OpenAI counts for one, whatever its size; sound has 8 kbit/s, or the
  length that its file states, if that is longer;
* output has the tokens that the request allows (`max_tokens` and the like, for each of its choices), or else the
  model's maximum;
* earlier turns, a stored conversation, all stored items together, a prompt template, a file, what a hosted tool or a
  subagent reads, and what a model writes for an SVG picture (Images API) have `SUPPOSED_TOKENS` each. A whole context
  window would be the true ceiling, but keys with small budgets could then make no such call. Tokens beyond that are
  counted when the call has ended.

If a member is given twice, upstream may use either value; the higher one is taken.

The facts come from developers.openai.com/api/docs: models (max output tokens), guides/images-vision, guides/audio,
guides/image-generation; and from huggingface.co/datasets/JOHNISKING/image-token-cost (one photo sent to each model).

Over 300 lines, since each kind of content that costs something has its bound here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from proxyapi.bodies import model_places
from proxyapi.bodies.billing_parameters import TIERED_ROUTES
from proxyapi.bodies.json_body import JSONBody
from proxyapi.bodies.model_places import NamedModels
from proxyapi.exceptions import BadRequest, RouteNotAllowed
from proxyapi.limits.output_limits import (
    SUBAGENTS,
    AddedLimit,
    OutputLimit,
    by_plain_name,
    count_answers,
    count_in,
    count_subagents,
    output_limit_of,
)
from proxyapi.limits.request_content import (
    Form,
    check_names,
    containers_of,
    dictionaries,
    inline_data,
    is_one_of,
    is_own_tool,
    most_tokens,
    most_tokens_of_file,
    offered_tools,
    tokens_if_text,
)
from proxyapi.routes import Route
from usage.answers.audio_duration import length_of_file
from usage.answers.estimate_rules import SOUND_TOKENS_PER_SECOND, TRANSCRIPT_TOKENS_PER_SECOND, own_name
from usage.answers.tool_use import MOST_MADE_TOKENS, MOST_PICTURE_TOKENS, PREVIEW_TOOL
from usage.custom_prices import MAX_TIER_LENGTH
from usage.money.billing import MaxUsage
from usage.money.unbilled import is_free

FRAME_TOKENS = 64  # that upstream adds to the text of a request, such as the role of each message
SUPPOSED_TOKENS = 32_768
SUPPOSED_SEARCHES = 10
# Calls of hosted tools that have a price each, where the request does not limit them.
SUPPOSED_CALLS = {"web_search": SUPPOSED_SEARCHES, "file_search": SUPPOSED_SEARCHES, "image_generation": 1}
DEAREST_IMAGE_TOKENS = 48_169  # gpt-4o-mini counts 2833, and 5667 for each of 8 tiles
PARTIAL_IMAGE_TOKENS = 100
SOUND_BYTES_PER_SECOND = 1000
SOUND_LINKS = ("url", "file_url", "audio_url", "source_url")  # members of requests for transcripts
SUPPOSED_SOUND_BYTES = 25 * 1024 * 1024  # behind a link; OpenAI takes no larger file
SPEECH_TOKENS_PER_BYTE = 6  # 21 tokens a second (0.015 dollars a minute, 12 a million tokens), 4 letters a second

# The most tokens that a model puts out in one answer, by the beginning of its name; the first one that fits counts.
OUTPUT_CEILINGS = (
    ("gpt-5-chat", 16_384), ("gpt-5.1-chat", 16_384), ("gpt-5.2-chat", 16_384), ("gpt-5.3-chat", 16_384),
    ("gpt-5-pro", 272_000), ("gpt-chat", 128_000), ("gpt-5", 128_000), ("gpt-6", 128_000),
    ("daybreak-", 128_000), ("gpt-daybreak-", 128_000), ("gpt-rosalind-", 128_000),  # models of these families
    ("gpt-oss-", 131_072), ("gpt-4o", 16_384), ("chatgpt-", 16_384), ("gpt-4.5", 16_384), ("gpt-audio", 16_384),
    ("gpt-realtime", 16_384), ("computer-use", 16_384), ("babbage-", 16_384), ("davinci-", 16_384),
    ("o1-mini", 65_536), ("o1-preview", 32_768), ("o1", 100_000), ("o3", 100_000), ("o4", 100_000),
    ("codex-mini", 100_000), ("gpt-4.1", 32_768), ("gpt-4-turbo", 4096), ("gpt-4-vision", 4096),
    ("gpt-4-1106", 4096), ("gpt-4-0125", 4096), ("gpt-4-", 8192), ("gpt-4:", 8192), ("gpt-3.5", 4096), ("gpt-35", 4096),
    ("claude-", 128_000), ("gemini-", 65_536), ("grok-", 128_000),
)  # fmt: skip
_CEILING = re.compile("|".join(f"({re.escape(beginning)})" for beginning, _ in OUTPUT_CEILINGS))  # a group for each
_DRAWS = re.compile(r"-image|-banana")  # chat models whose answers may be pictures
UNKNOWN_OUTPUT_CEILING = 131_072  # of a model that is not listed: as many as the open models of 2026 put out

IMAGE_PARTS = {"image_url", "input_image", "computer_screenshot"}
FILE_PARTS = {"file", "input_file"}
# Other content that vendors take by a link. What is inline counts as text besides.
LINKED_PARTS = {"video_url", "input_video", "video", "audio_url", "document_url", "document", "file_url"}
HOSTED_TOOLS = ("web_search", "file_search", "code_interpreter", "image_generation", "mcp", "computer", "shell")
EARLIER_TURNS = ("previous_response_id", "conversation", "prompt")
# The members that an item of the input may have if upstream is to take its content from where it is stored, by its id.
STORED_ITEM = frozenset({"id", "type", "status", "role", "object", "agent", "phase", "created_by", "summary"})
BEYOND_TEXT = frozenset({"web_search_options", "modalities", SUBAGENTS, *EARLIER_TURNS})

# Of one request: the price of each model in each tier must be found before the call is sent.
MOST_MODELS, MOST_TIERS = 32, 4
ONE_TIER = frozenset({"default"})

SPEECH_IS_NOT_COUNTED = "This key has a budget, and upstream says what speech costs only with stream_format 'sse'."


@dataclass(frozen=True)
class CostCeiling:
    """The upper bound of what one call can use (its cost ceiling), for all models and service tiers that may answer it.

    `max_usage` has the upper bounds of tokens, audio, searches and so on. `output_limit` describes the limits of output
    tokens that the request's body states or may get; None if the body cannot limit the output.
    """

    models: frozenset[str]
    tiers: frozenset[str]
    max_usage: MaxUsage
    output_limit: OutputLimit | None = None

    @property
    def adjustable(self) -> OutputLimit | None:
        """The `OutputLimit` that says where the gateway may add an output limit to the call's body; None if it may not.

        It may not if the body already states an output limit, or if calls of this route cannot have one.
        """
        return None if self.output_limit is None or self.output_limit.stated else self.output_limit

    @property
    def added_limit(self) -> AddedLimit | None:
        """The output limit to add to the call's body to keep the call in this ceiling; None if none may be added."""
        limit = self.adjustable
        return None if limit is None else AddedLimit(limit.member, self.max_usage.output_tokens // limit.answers)

    def with_output(self, tokens: int) -> CostCeiling:
        """Returns a copy of this cost ceiling, lowered to at most `tokens` output tokens for each answer."""
        answers = 1 if self.output_limit is None else self.output_limit.answers
        output = min(self.max_usage.output_tokens, tokens * answers)
        return replace(self, max_usage=replace(self.max_usage, output_tokens=output))


def ceiling_of(
    method: str, route: Route | None, body: JSONBody | Form | None, *, is_estimate: bool = False
) -> CostCeiling | None:
    """Returns the upper bound of what a call can use, its cost ceiling; None for a free call and any method but POST.

    In a nested JSON object of the body, no name may occur twice. With `is_estimate` it may, and its last value counts.

    Raises:
        RouteNotAllowed: the cost of calls of this route cannot be counted; or the call is to make speech, and its
            `stream_format` is not `sse`.
        BadRequest: a JSON object below the top level of the body has a name twice, or the request names more than
            `MOST_MODELS` models or `MOST_TIERS` service tiers, and `is_estimate` is false.
    """
    if method != "POST" or (route is not None and is_free(method, route.name)):
        return None
    limit = output_limit_of(route, body) if isinstance(body, JSONBody) else None
    work = RequestedWork(body, limit)
    tiers = work.tiers() if route is not None and route.name in TIERED_ROUTES else ONE_TIER
    if not is_estimate and (len(work.models) > MOST_MODELS or len(tiers) > MOST_TIERS):
        words = f"more than {MOST_MODELS} models, or more than {MOST_TIERS} service tiers"
        raise BadRequest(f"This key has a budget, and the request names {words}.", param="model")
    if isinstance(body, JSONBody) and not is_estimate:
        check_names(work.objects)
    name = "" if route is None else route.name
    match name:
        case "/v1/chat/completions" | "/v1/responses" | "/v1/responses/compact":
            max_usage = work.conversation()
        case "/v1/completions":
            max_usage = work.completion()
        case "/v1/decisions":
            max_usage = MaxUsage(work.conversation().input_tokens)
        case "/v1/embeddings":
            max_usage = MaxUsage(input_tokens=work.text_tokens)
        case "/v1/audio/transcriptions" | "/v1/audio/translations":
            max_usage = work.transcription()
        case "/v1/audio/speech":
            if work.values("stream_format") != ["sse"]:
                raise RouteNotAllowed(SPEECH_IS_NOT_COUNTED)
            max_usage = work.speech()
        case "/v1/images/generations" | "/v1/images/edits" | "/v1/images/variations":
            max_usage = work.images()
        case _:
            raise RouteNotAllowed(f"This key has a budget, and what {name or 'this endpoint'} costs is not counted.")
    return CostCeiling(work.models, tiers, max_usage, limit)


def output_ceiling(model: str) -> int:
    """Returns the maximum number of output tokens of a model in one answer; 131,072 for an unknown model."""
    found = _CEILING.match(f"{own_name(model)}-")
    return OUTPUT_CEILINGS[(found.lastindex or 0) - 1][1] if found else UNKNOWN_OUTPUT_CEILING


class RequestedWork:
    """The content of one request (a JSON body or a form), with methods that compute upper bounds of its usage.

    `limit` describes how the body limits the output; None if bodies of this route cannot limit it.
    """

    def __init__(self, body: JSONBody | Form | None, limit: OutputLimit | None) -> None:
        self._fields: Mapping[str, Sequence[object]] = {}
        self._named = NamedModels()
        self.files: Sequence[int] = ()
        self.size = 0 if body is None else body.size
        self.is_form = isinstance(body, Form)
        texts: Iterable[bytes] = ()
        left_out = 0
        if isinstance(body, Form):
            texts = (value.encode("utf-8", "surrogatepass") for values in body.fields.values() for value in values)
            self._named = model_places.in_fields((name, text) for name, texts in body.fields.items() for text in texts)
            self.files, left_out = body.files, body.left_out_bytes
            self._fields = {name: [_number(value) for value in values] for name, values in body.fields.items()}
        elif body is not None:
            self._named = model_places.in_body(body.members)
            self._fields = by_plain_name(body.by_name)
            texts = [body.raw]
        self.text_tokens = sum(map(most_tokens, texts)) + left_out + FRAME_TOKENS  # as if all of the body were text
        # Every JSON object in the request's members, at any depth; the body itself is not among them.
        self.objects: Sequence[Mapping[str, object]] = [*dictionaries(self._fields.values())]
        # The names of all models that the request may run, including those of its tools and fallbacks. An empty string
        # stands for a main model that is not named, or not by a string.
        self.models = frozenset(model or "" for model in (*(self._named.main or ("",)), *self._named.others))
        self.limit = limit or OutputLimit("", (), count_answers(self._fields))

    def values(self, *names: str) -> list[object]:
        """Returns the values of the request's members or form fields `names`, without nulls."""
        return [value for name in names for value in self._fields.get(name, []) if value is not None]

    def texts(self, name: str) -> frozenset[str]:
        """Returns the strings among the values of the member or form field `name`; `{""}` if there are none."""
        return frozenset(value for value in self.values(name) if isinstance(value, str)) or frozenset({""})

    def tiers(self) -> frozenset[str]:
        """Returns the service tiers that the request names, in lower case; `{""}` if it names none."""
        return frozenset(tier.strip().lower()[:MAX_TIER_LENGTH] for tier in self.texts("service_tier"))

    def tool_lists(self) -> Sequence[object]:
        """Returns the request's lists named `tools`, wherever they are, but not those in which it names tools again."""
        again = set(map(id, dictionaries(self.values(model_places.TOOL_CHOICE))))
        parts = (part for part in self.objects if id(part) not in again)
        nested = [part["tools"] for part in parts if isinstance(part.get("tools"), list)]
        return [*self.values("tools"), *nested]

    def count(self, *names: str, otherwise: int) -> int:
        """Returns the highest positive integer among the request's members `names`; `otherwise` if there is none."""
        return max(map(count_in, self.values(*names)), default=0) or otherwise

    def conversation(self) -> MaxUsage:
        """Computes upper bounds of the tokens and hosted tool calls, such as web searches, of a chat or response."""
        models, lists = self.models, self.tool_lists()
        tools = [*dictionaries(lists)]
        output_tokens = self.limit.answers * self.limit.tokens(max(map(output_ceiling, models)))
        parts = [part for part in self.objects if "type" in part or "id" in part]
        draws = any(_DRAWS.search(own_name(model)) for model in models)
        if not parts and not tools and self._fields.keys().isdisjoint(BEYOND_TEXT) and not draws:  # as in most requests
            return MaxUsage(self.text_tokens, output_tokens, answers=self.limit.answers)
        images = [part for part in parts if is_one_of(part, IMAGE_PARTS)]
        sounds = [inline_data(part.get("input_audio")) for part in parts if is_one_of(part, {"input_audio"})]
        files = [inline_data(part) for part in parts if is_one_of(part, FILE_PARTS)]
        not_text = tokens_if_text([*map(inline_data, images), *sounds, *files])
        hosted = [kind for tool in tools if (kind := str(tool.get("type"))).startswith(HOSTED_TOOLS)]
        kinds_hosted = set(hosted)
        # of other vendors, or newer than this code
        unknown = [tool for tool in offered_tools(lists) if not is_own_tool(tool) and tool["type"] not in kinds_hosted]
        calls = {  # of hosted tools, by kind; `max_tool_calls` is for all of them together
            kind: self.count("max_tool_calls", otherwise=supposed)
            for kind, supposed in SUPPOSED_CALLS.items()
            if any(one.startswith(kind) for one in kinds_hosted)
        }
        named = self.values(*EARLIER_TURNS)
        elsewhere = len(files) + len(hosted) + len(unknown) + len(self.values("web_search_options")) + len(named)
        elsewhere += sum(is_one_of(part, LINKED_PARTS) for part in parts)
        counted = set(map(id, named))
        elsewhere += any(_is_stored(part) for part in parts if id(part) not in counted)
        elsewhere += count_subagents(self._fields)  # each reads what it is told and what its tools find
        small = any(own_name(model).startswith("gpt-4o-mini") for model in models)
        speaks = any("audio" in modalities for modalities in self.values("modalities") if isinstance(modalities, list))
        kinds = {"audio_input": sounds, "image_input": images, "audio_output": speaks, "image_output": draws}
        return MaxUsage(
            input_tokens=max(self.text_tokens - not_text, 0)
            + len(images) * (DEAREST_IMAGE_TOKENS if small else MOST_PICTURE_TOKENS)
            + _sound_tokens(sum(map(len, sounds)) * 3 // 4)
            + sum(map(most_tokens_of_file, files))
            + elsewhere * SUPPOSED_TOKENS,
            output_tokens=output_tokens,
            web_searches=calls.get("web_search", 0),
            file_searches=calls.get("file_search", 0),
            pictures=calls.get("image_generation", 0),
            picture_models=frozenset(islice(dict.fromkeys(_named_by_tool(tools, "image_generation")), MOST_MODELS)),
            containers=tuple(containers_of(tools)),
            search_tool=PREVIEW_TOOL if any(kind.startswith(PREVIEW_TOOL) for kind in kinds_hosted) else "",
            kinds=frozenset(kind for kind, has in kinds.items() if has),
            answers=self.limit.answers,
        )

    def completion(self) -> MaxUsage:
        """Computes upper bounds of the tokens of a legacy completion (`/v1/completions`) with all its prompts."""
        most = max(map(output_ceiling, self.models))
        output_tokens = self.limit.answers * self.limit.tokens(most)
        return MaxUsage(self.text_tokens, output_tokens, answers=self.limit.answers)

    def transcription(self) -> MaxUsage:
        """Computes upper bounds of a transcription's or translation's tokens and audio seconds, from file sizes."""
        # OpenAI takes a file in a form. Some servers take base64 in JSON, or a link.
        inline = 0 if self.is_form else self.size * 3 // 4
        size = sum(self.files) + inline + len(self.values(*SOUND_LINKS)) * SUPPOSED_SOUND_BYTES
        seconds = math.ceil(size / SOUND_BYTES_PER_SECOND) + 1  # the shortest file is billed as one second
        return MaxUsage(
            input_tokens=self.text_tokens + seconds * SOUND_TOKENS_PER_SECOND,
            output_tokens=seconds * TRANSCRIPT_TOKENS_PER_SECOND + FRAME_TOKENS,
            audio_seconds=seconds,
            kinds=frozenset({"audio_input"}),
        )

    def speech(self) -> MaxUsage:
        """Computes upper bounds of the tokens for turning text into speech, from the request body's size."""
        files = sum(self.files)  # a server may take the text from a file
        made = (self.size + files) * SPEECH_TOKENS_PER_BYTE
        return MaxUsage(input_tokens=self.text_tokens + files, output_tokens=made, kinds=frozenset({"audio_output"}))

    def images(self) -> MaxUsage:
        """Computes upper bounds of the tokens and images of a request to generate, edit or vary images."""
        links = [part for part in self.objects if "image_url" in part or "file_id" in part]
        not_text = tokens_if_text(map(inline_data, links))
        one = MOST_MADE_TOKENS + PARTIAL_IMAGE_TOKENS * self.count("partial_images", otherwise=0)
        if self.values("svg") or "svg" in self.texts("output_format"):
            one += SUPPOSED_TOKENS  # of the model that writes the picture, whose output nothing limits
        number = self.count("n", otherwise=1)
        return MaxUsage(
            input_tokens=max(self.text_tokens - not_text, 0) + (len(self.files) + len(links)) * MOST_PICTURE_TOKENS,
            output_tokens=number * one,
            images=number,
            kinds=frozenset({"image_output"} | ({"image_input"} if self.files or links else set())),
        )


def _is_stored(part: Mapping[str, object]) -> bool:
    """Returns whether an item of the input, or a message's `audio`, has only the id of content that upstream stores."""
    if is_one_of(part, {"item_reference"}):
        return True
    return isinstance(part.get("id"), str) and not any(part[name] for name in part if name not in STORED_ITEM)


def _named_by_tool(tools: Iterable[Mapping[str, object]], kind: str) -> Iterator[str]:
    """Yields the models that the tools of type `kind`, such as `image_generation`, name in a request's `tools`."""
    for tool in tools:
        if is_one_of(tool, {kind}) and isinstance(model := tool.get("model"), str):
            yield model


def sound_size(head: bytes, size: int) -> int:
    """Returns the size in bytes that an uploaded file counts as for the cost ceiling: its own size, or more for sound.

    A sound file may be small and long: silence takes next to nothing in FLAC, for example, but is billed by its length.
    So such a file counts as large as usual sound (`SOUND_BYTES_PER_SECOND`) of the length that it states in `head`, its
    first bytes. It counts as at most one second for each byte: not even FLAC can hold more.
    """
    seconds = min(length_of_file(head, size) or 0, size)
    return max(size, math.ceil(seconds * SOUND_BYTES_PER_SECOND))


def _sound_tokens(size: int) -> int:
    """Returns the upper bound of the input tokens of an audio file or clip of `size` bytes."""
    return math.ceil(size / SOUND_BYTES_PER_SECOND * SOUND_TOKENS_PER_SECOND)


def _number(text: str) -> str | int:
    """Converts the text of a form's field to an integer; returns the text itself if it is not 1 to 9 digits."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else text
