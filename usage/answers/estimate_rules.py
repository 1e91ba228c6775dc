"""Estimates the tokens of calls whose usage upstream has not stated. These rules hold in all such cases:

* If text of the answer has come, whole or in part: a token for every four bytes of the text. A model that reasons
  without showing it gets the tokens in `REASONING_TOKENS` in addition, for each answer that the request asks for.
* If no answer has come: the most that the call's limit allows, but no more than a model makes in the time that
  upstream had (`TOKENS_PER_SECOND`), for each of several answers or pictures.
* If some of several pictures of a stream have come: each missing one counts like the last one that came.
* Hosted tools: as much use as a reservation for the request assumes, since a tool may work on after the answer has
  broken off; or the use that was seen, if that is more (`at_least`). In a stream of a key without a budget, only the
  use that was seen. Of an answer with too many values to be read to its end, the tools are estimated so even if the
  answer states its tokens (`tool_use_of`).
* Input: with a streamed answer, a token for every four bytes of the request's text; otherwise the tokens that the
  call's cost ceiling assumes (`proxyapi.limits.cost_ceiling`).

There is one exception. For a stream of a key with a budget, the estimate is the most that it can have used, so that
nobody can exceed a budget by leaving streams early: its input as reserved, its text by the rule of the reservation, and
at least `REASONING_TOKENS_PER_SECOND` for a model that reasons without showing it (`proxyapi.limits.usage_estimates`).

An estimate of output is never above the call's limit. Audio has the length that its transcript or file states
(`usage.answers.audio_duration`), or else the length that the cost ceiling assumes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

from usage.answers.tokens import whole_count
from usage.call_record import COUNTS, CallRecord, Counts, OtherUsage, SupposedUsage
from usage.ids import started_at
from usage.models import UsageSource

# OpenAI's rule of thumb for English (help centre, "What are tokens and how to count them?").
USUAL_BYTES_PER_TOKEN = 4
# The fastest model is announced with "more than 1,000 tokens per second" (openai.com, GPT-5.3-Codex-Spark, 2026-02-12;
# read 2026-11-28), the others make 50 to 200.
TOKENS_PER_SECOND = 1000
REASONING_TOKENS_PER_SECOND = 200  # of those others, which are all that reason for long
SOUND_TOKENS_PER_SECOND = 10
TRANSCRIPT_TOKENS_PER_SECOND = 5
# Tokens that a model spends on reasoning before it answers, by its effort. OpenAI states "a few hundred to tens of
# thousands" (developers.openai.com/api/docs/guides/reasoning, read 2026-11-28); these are for a question of middling
# difficulty, so one call may cost several times as much.
REASONING_TOKENS = {
    "none": 0, "minimal": 64, "low": 500, "medium": 2000, "high": 6000, "xhigh": 12_000, "max": 24_000,
}  # fmt: skip
# A large request has pictures or sound in it, which are few tokens for their size.
MAX_INTERRUPTED_INPUT_TOKENS = 32_768
# Daybreak names models of these families.
REASONING_MODELS = (
    "gpt-5", "gpt-6", "gpt-rosalind-", "gpt-oss-", "o1", "o3", "o4", "codex-", "daybreak-", "gpt-daybreak-",
)  # fmt: skip
CHAT_MODELS = ("gpt-5-chat", "gpt-5.1-chat", "gpt-5.2-chat", "gpt-5.3-chat")  # of these families, but without reasoning
# The effort without `reasoning_effort`: "gpt-5.1 defaults to none, all models before it to medium, gpt-5-pro to high"
# (OpenAI's reference, as in openai-ruby's `reasoning_effort.rb`, read 2026-11-28). Of later models nothing is known.
USUAL_EFFORTS = (("gpt-5.1-codex", "medium"), ("gpt-5.1", "none"))
USUAL_EFFORT = "medium"
PRO_EFFORT = "high"
# Models of other vendors that reason unless they are told not to, by their own names. Gemini since 2.5: Flash-Lite
# hardly by default, Pro much (docs.cloud.google.com, "Developer's guide to Gemini 3.5 Flash"). Grok since 4
# (vercel.com/ai-gateway/models/grok-4/faq). Both were read on 2026-11-30. Claude reasons only if asked to.
_OTHERS = re.compile(r"gemini-(?:2\.5|[3-9])|grok-(?:[4-9]|3-mini|build|code)")
_OTHERS_WITHOUT = re.compile(r"-(?:image|tts|live|native-audio|non-reasoning)\b")
# Models that reason in every call: "all models before gpt-5.1 do not support none" (OpenAI's reference, as above), nor
# do Codex and Pro models (developers.openai.com/api/docs/models), Gemini Pro and Grok 4 (the pages above).
_ALWAYS = re.compile(r"o[134]|gpt-5(?![.\d])|gpt-oss|grok-4(?!.*fast)|.*(?:codex|-pro\b)")
_ASKED = re.compile(r"claude-")  # models that reason only if the request asks for it


def own_name(model: str) -> str:
    """Returns the name of a model in lower case, without its vendor or region: `gpt-5` for `openai/gpt-5`.

    Of a fine-tuned model, the name begins with that of its base model.
    """
    name = model.lower()
    if not name.startswith("ft:"):  # what is behind the base model is the customer's
        name = name.rpartition("/")[2]
    return name.removeprefix("ft:")


def tokens_of_text(size: int) -> int:
    """Estimates the number of tokens in a text of `size` bytes: one for every four bytes, rounded up."""
    return math.ceil(size / USUAL_BYTES_PER_TOKEN)


def tokens_made_in(seconds: float) -> int:
    """Returns an upper bound of the output tokens that a model can make in `seconds` seconds; at least 1."""
    return math.ceil(max(seconds, 0.001) * TOKENS_PER_SECOND)


def reasoning_tokens(model: str, effort: object) -> int:
    """Estimates how many tokens a model spends on hidden reasoning before one answer; 0 if the model does not reason.

    `effort` is the request's reasoning effort, such as `low`. For an unknown or missing effort, and for `none` if the
    model always reasons, the model's default effort is used. A model that reasons only if asked to does so if there is
    any effort.
    """
    name = own_name(model)
    is_other = _OTHERS.match(name) is not None and _OTHERS_WITHOUT.search(name) is None
    is_asked = _ASKED.match(name) is not None and effort is not None
    if not is_other and not is_asked and (not name.startswith(REASONING_MODELS) or name.startswith(CHAT_MODELS)):
        return 0
    if isinstance(effort, str) and effort in REASONING_TOKENS and (effort != "none" or not _ALWAYS.match(name)):
        return REASONING_TOKENS[effort]
    if "-flash-lite" in name:
        return 0
    if "-pro" in name:
        return REASONING_TOKENS[PRO_EFFORT]
    usual = next((usual for prefix, usual in USUAL_EFFORTS if name.startswith(prefix)), USUAL_EFFORT)
    return REASONING_TOKENS[usual]


def limited_to_time(supposed: SupposedUsage, seconds: float) -> SupposedUsage:
    """Returns a copy of the estimated usage `supposed`, with at most the output that a model can make in `seconds`.

    Of several answers or pictures (`answers`), each is made as fast as a single one. Only output tokens are limited,
    and not the use of hosted tools.
    """
    counts = supposed.copy()
    # The use of hosted tools stays, because tools work beside the model.
    made = tokens_made_in(seconds) * counts.pop("answers", 1)
    output = counts.get("output_tokens") or 0
    if output > made:
        counts["output_tokens"] = made
        if counts.get("audio_output_tokens"):
            counts["audio_output_tokens"] = made
    return counts


def at_least(supposed: SupposedUsage, seen: Counts, seen_use: OtherUsage | None = None) -> SupposedUsage:
    """Returns a copy of the estimated usage `supposed`, raised to the known counts where these are higher.

    `seen` has the known token counts, such as those in an answer, and `seen_use` the known use of hosted tools.
    """
    raised = supposed.copy()
    more = {name: count for name in COUNTS if (count := seen.get(name) or 0) > (supposed.get(name) or 0)}
    raised.update(cast(SupposedUsage, more))
    if seen_use:
        raised["other_usage"] = _larger_use(supposed.get("other_usage") or {}, seen_use)
    return raised


def tool_use_of(supposed: SupposedUsage) -> SupposedUsage:
    """Returns those fields of the estimated usage `supposed` that state the use of hosted tools; empty if none does."""
    found: SupposedUsage = {}
    if searches := supposed.get("web_searches"):
        found["web_searches"] = searches
    if other := supposed.get("other_usage"):
        found["other_usage"] = other
    return found


def _larger_use(supposed: OtherUsage, seen: OtherUsage) -> OtherUsage:
    """Combines the estimated and the known use of hosted tools, `supposed` and `seen`, so that the higher one counts.

    For file searches, containers and the tokens of pictures, the higher use is taken. All else, such as the model or
    the type of a tool, is taken from the estimate, or from `seen` if the estimate lacks it.
    """
    # A model or a type of tool is taken from the estimate: the dearest that the request allows.
    larger: OtherUsage = {**seen, **supposed}
    if file_searches := max(supposed.get("file_searches", 0), seen.get("file_searches", 0)):
        larger["file_searches"] = file_searches
    if len(seen.get("containers", ())) > len(supposed.get("containers", ())):
        larger["containers"] = seen["containers"]
    if "image_tokens" in seen and _output(seen["image_tokens"]) > _output(supposed.get("image_tokens", {})):
        larger["image_tokens"] = seen["image_tokens"]
        larger["image_tokens_estimated"] = seen.get("image_tokens_estimated", False)
    return larger


def _output(pictures: Mapping[str, object]) -> int:
    return whole_count(pictures.get("output_tokens"))


def estimate_interrupted(begin: CallRecord) -> CallRecord:
    """Returns estimated token counts of a call whose process was killed before the call ended, as columns of its row.

    `begin` is the record that the journal stored when the call began.

    * If it has an estimated usage (`supposed`), the result is this usage, with its output limited to what a model can
      make from the call's start until now.
    * Otherwise, the input tokens of a POST are estimated from the size of its request (at most
      `MAX_INTERRUPTED_INPUT_TOKENS`), and the output counts as 0.
    * If neither is possible, the result is empty.
    """
    if (supposed := begin.get("supposed")) is not None:
        seconds = (datetime.now(UTC) - started_at(begin["request_id"])).total_seconds()
        estimate: CallRecord = {"usage_source": UsageSource.ESTIMATED}
        used = at_least(limited_to_time(supposed, seconds), {}, begin.get("other_usage"))
        estimate.update(cast(CallRecord, used))
        return estimate
    size = begin.get("request_bytes") or 0
    if begin.get("method") != "POST" or not size:
        return {}
    tokens = min(tokens_of_text(size), MAX_INTERRUPTED_INPUT_TOKENS)
    return {"input_tokens": tokens, "output_tokens": 0, "usage_source": UsageSource.ESTIMATED}
