"""A table of calls that are rare, or whose answers are odd; `tests.support.bills.usual_calls` has the usual ones.

The dollars come from the same copy of developers.openai.com/api/docs/pricing and from the models' pages there, in
dollars per million tokens:

    model                     input   cached   output
    gpt-audio                 2.50             10       sound 32 in, 64 out
    gpt-audio-mini            0.60             2.40     sound 10 in, 20 out
    gpt-realtime              4       0.40     16       sound 32 in, 0.40 cached, 64 out
    gpt-5-mini                0.25    0.025    2
    o3-deep-research          10      2.50     40
    o4-mini-deep-research     2       0.50     8
    computer-use-preview      3                12
    ft:gpt-4o-mini, ft:4.1    0.30, 3 (cached half, 0.75)   1.20, 12
    gpt-4o-transcribe, mini   2.50, 1.25       10, 5
    gpt-image-1, mini         5, 2 (text), 10, 2.50 (image)  40, 8
    decisions of gpt-6-luna   0.10             0        (apidog.com/pt/blog/openai-decisions-api, read 2026-11-29)

Pictures without a stated usage have 7,024 tokens as squares of high quality, and 1,756 of medium quality by gpt-image-2
(community.openai.com/t/gpt-image-2-output-pricing-calculator/1382699).
"""

from __future__ import annotations

import json
from typing import Any

from openai.types import Decision, ImageEditPartialImageEvent, ModerationCreateResponse
from openai.types.audio import TranscriptionDiarized, TranscriptionTextDoneEvent, TranscriptionVerbose
from openai.types.chat import ChatCompletion
from openai.types.responses import CompactedResponse

from tests.support.bills.shapes import (
    CHAT,
    EVENTS,
    FILE_SEARCH,
    KNOWN,
    MESSAGE,
    OPENED,
    PREVIEW,
    TRANSCRIPT_OF_90_SECONDS,
    WEB_SEARCH,
    BillCase,
    as_events,
    as_json,
    chat,
    chat_usage,
    checked,
    file_searched,
    image_tool,
    images,
    interpreter,
    made_pictures,
    of_chat,
    of_chat_stream,
    of_pictures,
    of_response,
    of_response_stream,
    of_tools,
    of_transcript,
    picture_event,
    pictured,
    ran,
    searched,
    tokens,
    tool_usage,
)

CACHED_BY_KIND = {"cached_tokens": 300, "cached_tokens_details": {"text_tokens": 100, "audio_tokens": 200}}
MCP = {"type": "mcp", "server_label": "docs", "server_url": "https://mcp.example", "require_approval": "never"}
COMPUTER = {"type": "computer_use_preview", "display_width": 1024, "display_height": 768, "environment": "browser"}
FOUND_IN_PAGE = {
    "type": "web_search_call", "id": "ws_8", "status": "completed",
    "action": {"type": "find_in_page", "url": "https://a.example", "pattern": "x"},
}  # fmt: skip
MCP_ITEMS = [
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "docs", "tools": []},
    {"type": "mcp_call", "id": "mcp_1", "server_label": "docs", "name": "find", "arguments": "{}", "output": "x"},
]
CLICKED = {
    "type": "computer_call", "id": "cu_1", "call_id": "call_2", "status": "completed", "pending_safety_checks": [],
    "action": {"type": "click", "button": "left", "x": 1, "y": 2},
}  # fmt: skip
FAILED: dict[str, Any] = {"status": "failed", "error": {"code": "server_error", "message": "Oh"}}
FAST_COMPACTION = {"model": "gpt-6.1-sol", "input": "hi", "service_tier": "priority"}
COMPACTED = as_json(
    CompactedResponse,
    {"id": "resp_3", "object": "response.compaction", "created_at": 1, "output": [], "usage": KNOWN},
)


def tiered_chunk(tier: str, usage: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5"}
    return {**chunk, "service_tier": tier, "choices": [] if usage else [choice], "usage": usage}


def partial_picture(number: int) -> dict[str, Any]:
    event = {
        "type": "image_edit.partial_image", "b64_json": "aGVs", "background": "opaque", "created_at": 1,
        "output_format": "png", "partial_image_index": number, "quality": "high", "size": "1024x1024",
    }  # fmt: skip
    return checked(ImageEditPartialImageEvent, event)


def of_tokens(audio: int, text: int, out: int) -> dict[str, Any]:
    details = {"audio_tokens": audio, "text_tokens": text}
    total = {"input_tokens": audio + text, "output_tokens": out, "total_tokens": audio + text + out}
    return {"type": "tokens", **total, "input_token_details": details}


CASES: tuple[BillCase, ...] = (
    # Sound: cached tokens of which nobody says the kind are text; gpt-audio has no discount: 400 * 2.5 + 600 * 32
    # + 10 * 10 + 40 * 64
    of_chat("sound, cached", "0.02286", "gpt-audio", chat_usage(
        1000, 50, {"audio_tokens": 600, "text_tokens": 400, "cached_tokens": 300},
        {"audio_tokens": 40, "text_tokens": 10})),
    # 40 * 0.6 + 60 * 10 + 10 * 2.4 + 40 * 20
    of_chat_stream("sound, streamed", "0.001448", "gpt-audio-mini",
                   chat_usage(100, 50, {"audio_tokens": 60}, {"audio_tokens": 40})),
    # 40 * 2.5 + 60 * 40 + 10 * 10 + 40 * 80
    of_chat("sound of the preview", "0.0058", "gpt-4o-audio-preview-2024-12-17",
            chat_usage(100, 50, {"audio_tokens": 60}, {"audio_tokens": 40})),
    # In the shape of Realtime, as servers that imitate it state it: text 300 * 4 + 100 * 0.4, sound 400 * 32
    # + 200 * 0.4, 10 * 16 + 40 * 64
    BillCase("realtime's shape", CHAT, {"model": "gpt-realtime", "messages": []}, json.dumps(chat("gpt-realtime", {
        "input_tokens": 1000, "output_tokens": 50, "total_tokens": 1050,
        "input_token_details": {"text_tokens": 400, "audio_tokens": 600, "image_tokens": 0, **CACHED_BY_KIND},
        "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
    })).encode(), "0.01684"),
    # All choices are in one usage: 100 * 2.5 + 90 * 10
    of_chat("three choices", "0.00115", "gpt-4o", chat_usage(100, 90)),
    # Predictions that were rejected, and reasoning, are in the output: 100 * 1.25 + 500 * 10
    of_chat("prediction that reasons", "0.005125", "gpt-5", chat_usage(
        100, 500, None, {"accepted_prediction_tokens": 5, "rejected_prediction_tokens": 400, "reasoning_tokens": 64})),
    # Members that nobody knows, and null where details could be: 1000 * 2.5 + 100 * 10
    of_chat("unknown members", "0.0035", "gpt-4o", {
        **chat_usage(1000, 100), "cost": 99, "energy": {"joules": 5}, "num_sources_used": 3}),
    of_chat("no details", "0.0035", "gpt-4o", {
        **chat_usage(1000, 100), "prompt_tokens_details": None, "completion_tokens_details": None}),
    of_chat("fast", "0.0045", "gpt-5", chat_usage(1000, 100), "fast"),  # as priority
    # 1000 * 12 + 100 * 60
    of_response("ultrafast", "0.018", "gpt-6.1-sol", KNOWN, service_tier="ultrafast"),
    # 600 * 1 + 400 * 0.05 + 100 * 5
    of_response("flex, cached", "0.00112", "gpt-6.1-sol", tokens(1000, 100, cached=400), service_tier="flex"),
    # 500 * 4 + 300 * 0.2 + 200 * 5 + 100 * 20
    of_response("priority, cached and written", "0.00506", "gpt-6.1-sol", tokens(1000, 100, cached=300, written=200),
                service_tier="priority"),
    of_response("scale", "0.00225", "gpt-5", KNOWN, "provisional", service_tier="scale"),
    BillCase("flex, streamed chat", CHAT,
             {"model": "gpt-5", "messages": [], "stream": True, "stream_options": {"include_usage": True}},
             as_events(tiered_chunk("flex", None), tiered_chunk("flex", chat_usage(1000, 100)), done=True),
             "0.001125", content_type=EVENTS),
    # The long price is for all of the prompt, cached tokens too: 200,000 * 4 + 100,000 * 0.2 + 1000 * 15
    of_response("long prompt, cached", "0.835", "gpt-6.1-sol", tokens(300_000, 1000, cached=100_000)),
    # Another model has answered than was asked: 1000 * 0.25 + 100 * 2
    of_response("answered by another model", "0.00045", "gpt-5-mini-2025-08-07", KNOWN, asked={"model": "gpt-5"}),
    of_chat("a date that nobody has listed", "0.0035", "gpt-4o-2031-01-01", chat_usage(1000, 100))._replace(
        kind="provisional"),
    # Fine-tuned: 600 * 0.3 + 400 * 0.15 + 100 * 1.2; 1000 * 3 + 100 * 12; 600 * 4 + 400 * 1 + 100 * 16
    of_chat("fine-tuned, cached", "0.00036", "ft:gpt-4o-mini-2024-07-18:org::id",
            chat_usage(1000, 100, {"cached_tokens": 400})),
    of_chat("fine-tuned gpt-4.1", "0.0042", "ft:gpt-4.1-2025-04-14:org:name:id", chat_usage(1000, 100)),
    of_chat("fine-tuned o4-mini", "0.0044", "ft:o4-mini-2025-04-16:org::id",
            chat_usage(1000, 100, {"cached_tokens": 400})),
    # Base64 is for callers; the price is that of the tokens: 1000 * 0.02
    BillCase("embedding as base64", "/v1/embeddings",
             {"model": "text-embedding-3-small", "input": ["hi", "ho"], "encoding_format": "base64"},
             json.dumps({"object": "list", "model": "text-embedding-3-small",
                         "data": [{"object": "embedding", "index": 0, "embedding": "zczMPQ=="}],
                         "usage": {"prompt_tokens": 1000, "total_tokens": 1000}}).encode(), "0.00002"),
    BillCase("moderation of a picture", "/v1/moderations",
             {"input": [{"type": "image_url", "image_url": {"url": "https://a.example"}}]},
             as_json(ModerationCreateResponse, {"id": "modr-1", "model": "omni-moderation-latest", "results": []}),
             "0"),
    # 1000 * 0.1: what it puts out and its cache are not billed
    BillCase("decision", "/v1/decisions", {"model": "gpt-6-luna", "input": "hi", "questions": []}, as_json(Decision, {
        "answers": [], "model": "gpt-6-luna", "usage": tokens(1000, 100, cached=500, reasoning=50)}), "0.0001"),
    # Tools beside others. Deep research: 1000 * 10 + 100 * 40 + two searches 20,000 + a container 7,500
    of_tools("deep research", "0.0415", "o3-deep-research-2025-06-26", KNOWN, [PREVIEW, interpreter()],
             [searched(1), OPENED, FOUND_IN_PAGE, searched(2), ran(1, "cntr_1")], "estimated"),
    # 1000 * 2 + 100 * 8 + 30,000
    of_tools("small deep research", "0.0328", "o4-mini-deep-research", KNOWN, [PREVIEW],
             [searched(1), searched(2), searched(3)]),
    of_tools("computer use", "0.0042", "computer-use-preview", KNOWN, [COMPUTER], [CLICKED]),  # 1000 * 3 + 100 * 12
    of_tools("MCP", "0.00225", "gpt-5", KNOWN, [MCP], MCP_ITEMS),  # tokens only
    # A container of the caller's, used again: the least, 2,250 + 7,500; two of them twice that
    of_tools("container used again", "0.00975", "gpt-5", KNOWN, [{"type": "code_interpreter", "container": "cntr_9"}],
             [ran(1, "cntr_9"), ran(2, "cntr_9")], "estimated"),
    of_tools("two containers", "0.01725", "gpt-5", KNOWN, [interpreter()], [ran(1, "cntr_1"), ran(2, "cntr_2")],
             "estimated"),
    # 2,250 + 10,000 + 2,500 + 7,500
    of_tools("MCP beside searches and code", "0.02225", "gpt-5", KNOWN, [MCP, WEB_SEARCH, FILE_SEARCH, interpreter()],
             [*MCP_ITEMS, searched(1), file_searched(1), ran(1, "cntr_1")], "estimated", tool_usage=tool_usage(1)),
    # Cut by its limit after a search: 2,250 + 10,000
    of_tools("incomplete after a search", "0.01225", "gpt-5", KNOWN, [WEB_SEARCH], [searched(1)], status="incomplete",
             incomplete_details={"reason": "content_filter"}),
    # Failed after tools have worked, without a usage: they cost what they do, as an estimate
    of_tools("failed after searches", "0.0225", "gpt-5", None, [WEB_SEARCH, FILE_SEARCH],
             [searched(1), searched(2), file_searched(1)], "estimated", **FAILED),
    of_tools("failed after a picture", "0.03193", "gpt-6.1-sol", None, [image_tool("gpt-image-2")], [pictured()],
             "estimated", tool_usage=tool_usage(**made_pictures(50, 0, 1056)), **FAILED),
    of_response_stream("search, streamed", "0.01225", "gpt-5", KNOWN, tools=[WEB_SEARCH],
                       output=[searched(1), MESSAGE], tool_usage=tool_usage(1)),
    # Pictures by the tool without a stated usage, by default of gpt-image-2.6, which spares nothing: 3,000 + 7024 * 30;
    # of gpt-image-1 in high quality and tall: 3,000 + 6240 * 40; the best quality by what is reserved for it
    of_tools("picture of the default model", "0.21372", "gpt-6.1-sol", KNOWN, [image_tool()], [pictured()],
             "estimated"),
    of_tools("tall picture", "0.2526", "gpt-6.1-sol", KNOWN, [image_tool("gpt-image-1")],
             [pictured("high", "1024x1536")], "estimated"),
    of_tools("best picture", "0.74028", "gpt-6.1-sol", KNOWN, [image_tool("gpt-image-2")],
             [pictured("max", "1536x864")], "estimated"),
    # 2,250 + 50 * 5 + 500 * 30, and gpt-5 has written the SVG: 100 * 1.25 + 200 * 10
    of_tools("SVG by the tool", "0.019625", "gpt-5", KNOWN, [image_tool("gpt-image-2.5-flare")],
             [{**pictured(), "svg_usage": {"model": "gpt-5", "input_tokens": 100, "output_tokens": 200,
                                           "reasoning_tokens": 50, "total_tokens": 300}}],
             tool_usage=tool_usage(**made_pictures(50, 0, 500))),
    # Its tier is in the request only: 1000 * 4 + 100 * 20; flex 1000 * 1 + 100 * 5
    BillCase("fast compaction", "/v1/responses/compact", FAST_COMPACTION, COMPACTED, "0.006", "provisional"),
    BillCase("flexible compaction", "/v1/responses/compact", {**FAST_COMPACTION, "service_tier": "flex"}, COMPACTED,
             "0.0015", "provisional"),
    BillCase("usual compaction", "/v1/responses/compact", {**FAST_COMPACTION, "service_tier": "auto"}, COMPACTED,
             "0.003"),
    # Images API. 50 * 5 + 300 * 10 + 1056 * 40; 4 pictures: 50 * 2 + 4224 * 8
    of_pictures("edit by gpt-image-1", "0.04549", "gpt-image-1", images(made_pictures(50, 300, 1056)),
                "/v1/images/edits"),
    of_pictures("four small pictures", "0.033892", "gpt-image-1-mini", images(made_pictures(50, 0, 4224)), n=4),
    # Pictures on the way are in the usage of the last: 50 * 5 + 300 * 8 + 1300 * 30
    of_pictures("edit with pictures on the way", "0.04165", "gpt-image-2", as_events(
        partial_picture(0), partial_picture(1), partial_picture(2),
        picture_event(made_pictures(50, 300, 1300), "image_edit.completed")),
        "/v1/images/edits", stream="true", partial_images="3"),
    # Transcripts by tokens: 1000 * 2.5 + 50 * 10; 1000 * 1.25 + 50 * 5
    of_transcript("transcript by tokens", "0.003", "gpt-4o-transcribe", **of_tokens(900, 100, 50)),
    of_transcript("small transcript", "0.0015", "gpt-4o-mini-transcribe", **of_tokens(900, 100, 50)),
    # Of a model that is billed by the minute: ten tokens are a second. And of one by tokens: 900 * 2.5 + 450 * 10
    of_transcript("newer transcript by tokens", "0.00675", "gpt-transcribe", **of_tokens(900, 100, 50))._replace(
        kind="estimated"
    ),
    of_transcript("transcript by its length", "0.00675", "gpt-4o-transcribe", **TRANSCRIPT_OF_90_SECONDS)._replace(
        kind="estimated"
    ),
    BillCase("newer transcript, streamed", "/v1/audio/transcriptions", {"model": "gpt-transcribe", "stream": "true"},
             as_events(checked(TranscriptionTextDoneEvent, {"type": "transcript.text.done", "text": "hello",
                                                            "usage": of_tokens(900, 100, 50)})),
             "0.00675", "estimated", content_type=EVENTS, is_form=True),
    # A model that no list has: 1000 * 2.5 + 100 * 10, as was asked for
    of_chat("unknown model", "0.0035", "gpt-4o", chat_usage(1000, 100))._replace(
        body=as_json(ChatCompletion, chat("gpt-99", chat_usage(1000, 100))), kind="provisional"
    ),
    BillCase("diarized transcript", "/v1/audio/transcriptions",
             {"model": "gpt-4o-transcribe-diarize", "response_format": "diarized_json"},
             as_json(TranscriptionDiarized, {"duration": 90.0, "segments": [], "task": "transcribe", "text": "hello",
                                             "usage": of_tokens(900, 100, 50)}), "0.003", is_form=True),
    BillCase("verbose transcript", "/v1/audio/transcriptions",
             {"model": "whisper-1", "response_format": "verbose_json"},
             as_json(TranscriptionVerbose, {"duration": 90.0, "language": "english", "text": "hello",
                                            "usage": TRANSCRIPT_OF_90_SECONDS}), "0.009", is_form=True),
    BillCase("transcript, streamed", "/v1/audio/transcriptions", {"model": "gpt-4o-transcribe", "stream": "true"},
             as_events({"type": "transcript.text.delta", "delta": "hello"},
                       checked(TranscriptionTextDoneEvent, {"type": "transcript.text.done", "text": "hello",
                                                            "usage": of_tokens(900, 100, 50)})),
             "0.003", content_type=EVENTS, is_form=True),
)  # fmt: skip
