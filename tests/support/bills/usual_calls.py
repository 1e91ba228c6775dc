"""A table of calls of every kind, each with upstream's answer, and the dollars that OpenAI bills, computed by hand.

Answers have OpenAI's own shapes: each is checked by the SDK's type for it. The dollars come from the price list of
developers.openai.com/api/docs/pricing (a copy of 2026-11-28), in dollars per million tokens:

    model                   input  cached  write  output   (beyond 272,000 input tokens: twice, output 1.5 times)
    gpt-6.1-sol             2      0.10    2.50   10
    gpt-5                   1.25   0.125   -      10       flex half of it, priority twice
    gpt-4.1, gpt-4.1-mini   2, 0.40                8, 1.60
    gpt-4o, gpt-4o-mini     2.50, 0.15 (cached half)  10, 0.60
    gpt-image-2, 2.5        5 (text), 8 (image), cached 1.25 and 2    30
    gpt-image-1.5           5 (text), 8 (image)                       10 (text), 32 (image)

    dall-e-2 (1024x1024, 512x512, 256x256), each $0.02, $0.018, $0.016 (models/dall-e-2)

    web search $10 per 1,000, web search preview with models that do not reason $25; file search $2.50 per 1,000;
    containers $0.03, 0.12, 0.48, 1.92 (1, 4, 16, 64 GB) for 20 minutes, 5 minutes at least;
    12-hour cache writes twice the input price (guides/prompt-caching);
    completion windows: 2h 30 % less, 8h 40 % less (guides/flex-processing)
"""

from __future__ import annotations

from openai.types import Completion, CreateEmbeddingResponse, ModerationCreateResponse
from openai.types.responses import CompactedResponse

from tests.support.bills.shapes import (
    CHAT,
    EVENTS,
    FILE_SEARCH,
    KNOWN,
    OLD_PICTURES,
    OPENED,
    PREVIEW,
    SPEECH,
    TRANSCRIPT_OF_90_SECONDS,
    WEB_SEARCH,
    BillCase,
    as_events,
    as_json,
    chat_usage,
    error,
    file_searched,
    image_tool,
    images,
    interpreter,
    made_pictures,
    of_chat,
    of_chat_stream,
    of_error,
    of_pictures,
    of_response,
    of_response_stream,
    of_speech,
    of_tools,
    of_transcript,
    picture_event,
    pictured,
    ran,
    ran_in_shell,
    response,
    searched,
    tokens,
    tool_usage,
    unbilled,
)

CASES: tuple[BillCase, ...] = (
    # 1000 * 2.5 + 100 * 10
    of_chat("chat", "0.0035", "gpt-4o", chat_usage(1000, 100)),
    # 600 * 2.5 + 400 * 1.25 + 100 * 10
    of_chat("chat, cached", "0.003", "gpt-4o", chat_usage(1000, 100, {"cached_tokens": 400})),
    # 1000 * 0.15 + 100 * 0.6
    of_chat_stream("chat, streamed", "0.00021", "gpt-4o-mini", chat_usage(1000, 100)),
    # 1000 * 2 + 500 * 8: reasoning is in the output
    of_chat("chat, reasoning", "0.006", "o3", chat_usage(1000, 500, None, {"reasoning_tokens": 400})),
    # An image costs a chat model what text does: 1000 * 2.5 + 100 * 10
    of_chat("chat, image", "0.0035", "gpt-4o", chat_usage(1000, 100, {"image_tokens": 900, "text_tokens": 100})),
    # Rejected predictions are in the completion tokens: 100 * 2.5 + 60 * 10
    of_chat("chat, prediction", "0.00085", "gpt-4o",
            chat_usage(100, 60, None, {"accepted_prediction_tokens": 20, "rejected_prediction_tokens": 30})),
    # gpt-audio: text 2.5 / 10, audio 32 / 64: 40 * 2.5 + 60 * 32 + 10 * 10 + 40 * 64
    of_chat("chat, sound", "0.00468", "gpt-audio", chat_usage(100, 50, {"audio_tokens": 60}, {"audio_tokens": 40})),
    of_chat("chat, flex", "0.001125", "gpt-5", chat_usage(1000, 100), "flex"),  # 1000 * 0.625 + 100 * 5
    of_chat("chat, priority", "0.0045", "gpt-5", chat_usage(1000, 100), "priority"),  # 1000 * 2.5 + 100 * 20
    # 100 * 2.5 + 200 * 10 + 25,000 for its one search
    of_chat("search model", "0.02725", "gpt-4o-search-preview", chat_usage(100, 200)),
    # 100 * 0.15 + 200 * 0.60; the list has the name under gpt-4o-mini, whose searches cost $0.01
    of_chat("small search model", "0.025135", "gpt-4o-mini-search-preview-2025-03-11", chat_usage(100, 200)),
    # 100 * 1.25 + 200 * 10 + 10,000
    of_chat("reasoning search model", "0.012125", "gpt-5-search-api", chat_usage(100, 200)),
    # 1000 * 0.3 + 100 * 1.2
    of_chat("fine-tuned", "0.00042", "ft:gpt-4o-mini-2024-07-18:org::id", chat_usage(1000, 100)),
    of_chat("chat, gpt-4.1", "0.00034", "gpt-4.1", chat_usage(50, 30)),  # 50 * 2 + 30 * 8
    # 100 * 1.5 + 50 * 2
    BillCase("legacy completion", "/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "hi"}, as_json(
        Completion, {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "gpt-3.5-turbo-instruct",
        "choices": [{"index": 0, "text": "hello", "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}}), "0.00025"),
    *(
        BillCase(model, "/v1/embeddings", {"model": model, "input": "hi"}, as_json(CreateEmbeddingResponse, {
            "object": "list", "model": model, "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}],
            "usage": {"prompt_tokens": 1000, "total_tokens": 1000},
        }), dollars)
        for model, dollars in (
            ("text-embedding-3-small", "0.00002"), ("text-embedding-3-large", "0.00013"),
            ("text-embedding-ada-002", "0.0001"),
        )
    ),
    BillCase("moderation", "/v1/moderations", {"model": "omni-moderation-latest", "input": "hi"}, as_json(
        ModerationCreateResponse, {"id": "modr-1", "model": "omni-moderation-latest", "results": []}), "0"),
    of_response("response", "0.003", "gpt-6.1-sol", KNOWN),  # 1000 * 2 + 100 * 10
    # 500 * 2 + 300 * 0.1 + 200 * 2.5 + 100 * 10
    of_response("30-minute cache writes", "0.00253", "gpt-6.1-sol", tokens(1000, 100, cached=300, written=200, long=0)),
    # 500 * 2 + 300 * 0.1 + 50 * 2.5 + 150 * 4 + 100 * 10
    of_response("12-hour cache writes", "0.002755", "gpt-6.1-sol",
                tokens(1000, 100, cached=300, written=200, long=150)),
    # All 100 written tokens for 12 hours, in a long prompt: 299,900 * 4 + 100 * 8 + 1000 * 15
    of_response("12-hour writes of a long prompt", "1.2154", "gpt-6.1-sol",
                tokens(300_000, 1000, written=100, long=100)),
    of_response("long prompt", "1.215", "gpt-6.1-sol", tokens(300_000, 1000)),  # 300,000 * 4 + 1000 * 15
    of_response("not quite a long prompt", "0.554", "gpt-6.1-sol", tokens(272_000, 1000)),  # 272,000 * 2 + 1000 * 10
    of_response("reasoning", "0.010125", "gpt-5", tokens(100, 1000, reasoning=960)),  # 100 * 1.25 + 1000 * 10
    of_response("flex", "0.001125", "gpt-5", KNOWN, service_tier="flex"),
    of_response("priority", "0.0045", "gpt-5", KNOWN, service_tier="priority"),
    of_response_stream("response, streamed", "0.00225", "gpt-5", KNOWN),
    of_response_stream("incomplete, streamed", "0.00225", "gpt-5", KNOWN, "response.incomplete", status="incomplete",
                       incomplete_details={"reason": "max_output_tokens"}),
    of_response("incomplete", "0.00225", "gpt-5", KNOWN, status="incomplete",
                incomplete_details={"reason": "max_output_tokens"}),
    of_response("failed without usage", "0", "gpt-5", None, status="failed", output=[],
                error={"code": "server_error", "message": "Oh"}),
    of_response("failed with usage", "0.00225", "gpt-5", KNOWN, status="failed", output=[],
                error={"code": "server_error", "message": "Oh"}),
    of_response_stream("failed, streamed", "0", "gpt-5", None, "response.failed", status="failed", output=[],
                       error={"code": "server_error", "message": "Oh"}),
    of_response("background", None, "gpt-5", None, "", {"background": True}, status="queued", output=[]),
    *(
        of_response(f"window of {window}", dollars, "gpt-6.1-sol", KNOWN, background=True,
                    asked={"background": True, "background_options": {"completion_window": window}})
        for window, dollars in (("2h", "0.0021"), ("8h", "0.0018"), ("soonest", "0.003"))  # 3,000 * 0.7, * 0.6
    ),
    BillCase("compaction", "/v1/responses/compact", {"model": "gpt-6.1-sol", "input": "hi"}, as_json(
        CompactedResponse,
        {"id": "resp_2", "object": "response.compaction", "created_at": 1, "output": [], "usage": KNOWN}), "0.003"),
    # Searches of the web: 2,250 of gpt-5's tokens, and 10,000 for each search; opening a page is free
    of_tools("two searches", "0.02225", "gpt-5", KNOWN, [WEB_SEARCH], [searched(1), searched(2), OPENED]),
    of_tools("one billable of two", "0.01225", "gpt-5", KNOWN, [WEB_SEARCH], [searched(1), searched(2)],
             tool_usage=tool_usage(1)),
    of_tools("no billable search", "0.00225", "gpt-5", KNOWN, [WEB_SEARCH], [searched(1)], tool_usage=tool_usage(0)),
    of_tools("search of gpt-4.1", "0.0128", "gpt-4.1", KNOWN, [WEB_SEARCH], [searched(1)]),  # 2,000 + 800 + 10,000
    of_tools("preview search of gpt-4.1", "0.0278", "gpt-4.1", KNOWN, [PREVIEW], [searched(1)]),  # 2,800 + 25,000
    of_tools("preview search that reasons", "0.01225", "gpt-5", KNOWN, [PREVIEW], [searched(1)]),
    of_tools("dated search tools", "0.0278", "gpt-4.1", KNOWN, [{"type": "web_search_preview_2025_03_11"}],
             [searched(1)], tool_usage=tool_usage(1)),
    # 100 * 20 + 10 * 80 + 10,000
    of_tools("search of o3-pro", "0.0128", "o3-pro", tokens(100, 10), [WEB_SEARCH], [searched(1)]),
    # The block of 8,000 tokens cannot be in 500: 500 * 0.4 + 100 * 1.6 + 8000 * 0.4 + 10,000
    of_tools("search of gpt-4.1-mini", "0.01356", "gpt-4.1-mini", tokens(500, 100), [WEB_SEARCH], [searched(1)],
             "estimated"),
    # In 9,000 it is: 9000 * 0.4 + 100 * 1.6 + 10,000
    of_tools("search with its content", "0.01376", "gpt-4.1-mini", tokens(9000, 100), [WEB_SEARCH], [searched(1)]),
    # 100 * 0.15 + 10 * 0.6 + 16,000 * 0.15 + 20,000
    of_tools("searches of gpt-4o-mini", "0.022421", "gpt-4o-mini", tokens(100, 10), [WEB_SEARCH],
             [searched(1), searched(2)], "estimated"),
    # Content found by the preview tool is free: 15 + 6 + 25,000
    of_tools("preview search of gpt-4o-mini", "0.025021", "gpt-4o-mini", tokens(100, 10), [PREVIEW], [searched(1)]),
    # Searches of files: 2,250 + 2 * 2,500
    of_tools("file searches", "0.00725", "gpt-5", KNOWN, [FILE_SEARCH], [file_searched(1), file_searched(2)]),
    of_tools("failed file search", "0.00225", "gpt-5", KNOWN, [FILE_SEARCH], [file_searched(1, "failed")]),
    # Containers: the least is a quarter of the price for 20 minutes. 2,250 + 7,500
    of_tools("code", "0.00975", "gpt-5", KNOWN, [interpreter()], [ran(1, "cntr_1")], "estimated"),
    # Two runs in one container with 4 GB: 2,250 + 30,000
    of_tools("code in 4 GB", "0.03225", "gpt-5", KNOWN, [interpreter("4g")], [ran(1, "cntr_1"), ran(2, "cntr_1")],
             "estimated"),
    # Hosted shell with 16 GB: 2,250 + 120,000; on the caller's machine it costs nothing
    of_tools("shell in 16 GB", "0.12225", "gpt-5", KNOWN,
             [{"type": "shell", "environment": {"type": "container_auto", "memory_limit": "16g"}}],
             [ran_in_shell({"type": "container_reference", "container_id": "cntr_1"})], "estimated"),
    of_tools("local shell", "0.00225", "gpt-5", KNOWN, [{"type": "shell", "environment": {"type": "local"}}],
             [ran_in_shell({"type": "local"})]),
    # Pictures by the hosted tool: 3,000 of gpt-6.1-sol, and 50 * 5 + 1056 * 30
    of_tools("picture by the tool", "0.03493", "gpt-6.1-sol", KNOWN, [image_tool("gpt-image-2")], [pictured()],
             tool_usage=tool_usage(**made_pictures(50, 0, 1056))),
    # Edited, with a cache: 3,000 + 80 * 5 + 20 * 1.25 + 260 * 8 + 40 * 2 + 1000 * 30
    of_tools("edit by the tool", "0.035585", "gpt-6.1-sol", KNOWN, [image_tool("gpt-image-2")], [pictured()],
             tool_usage=tool_usage(**made_pictures(
                 100, 300, 1000, cached_tokens=60,
                 cached_tokens_details={"cached_image_tokens": 40, "cached_text_tokens": 20}))),
    # gpt-image-1.5, which puts out text, too: 3,000 + 50 * 5 + 100 * 10 + 1000 * 32
    of_tools("picture with text", "0.03625", "gpt-6.1-sol", KNOWN, [image_tool("gpt-image-1.5")], [pictured()],
             tool_usage=tool_usage(**made_pictures(
                 50, 0, 1100, output_tokens_details={"image_tokens": 1000, "text_tokens": 100}))),
    # Without `tool_usage`, by the known tokens of a square of medium quality: 3,000 + 1756 * 30
    of_tools("picture without usage", "0.05568", "gpt-6.1-sol", KNOWN, [image_tool("gpt-image-2")], [pictured()],
             "estimated"),
    # 3,000 + 10,000 + 2,500 + 50 * 5 + 1056 * 30
    of_tools("several tools", "0.04743", "gpt-6.1-sol", KNOWN, [WEB_SEARCH, FILE_SEARCH, image_tool("gpt-image-2")],
             [searched(1), file_searched(1), pictured()], tool_usage=tool_usage(1, **made_pictures(50, 0, 1056))),
    # Images API. gpt-image-1.5: 50 * 5 + 1056 * 32
    of_pictures("picture", "0.034042", "gpt-image-1.5", images(made_pictures(
        50, 0, 1056, output_tokens_details={"image_tokens": 1056, "text_tokens": 0}))),
    # The event does not split the output: all of it is image tokens
    of_pictures("picture, streamed", "0.034042", "gpt-image-1.5", as_events(picture_event(made_pictures(50, 0, 1056))),
                stream=True),
    # 3 * (50 * 5 + 1000 * 30)
    of_pictures("three pictures, streamed", "0.09075", "gpt-image-2",
                as_events(*[picture_event(made_pictures(50, 0, 1000))] * 3), stream=True, n=3),
    # 50 * 5 + 300 * 8 + 1000 * 30
    of_pictures("edited picture", "0.03265", "gpt-image-2", images(made_pictures(50, 300, 1000)), "/v1/images/edits"),
    of_pictures("edited picture, streamed", "0.0653", "gpt-image-2",
                as_events(*[picture_event(made_pictures(50, 300, 1000), "image_edit.completed")] * 2),
                "/v1/images/edits", stream="true", n="2"),
    # 50 * 5 + 500 * 30, and gpt-5 has written the SVG: 100 * 1.25 + 200 * 10
    of_pictures("SVG", "0.017375", "gpt-image-2.5-flare", images(made_pictures(50, 0, 500), svg_usage={
        "model": "gpt-5", "input_tokens": 100, "output_tokens": 200, "reasoning_tokens": 50, "total_tokens": 300})),
    # By the picture: $0.02, $0.018, $0.016 of dall-e-2 by size; of dall-e-3 $0.04, in high definition and wide $0.12
    of_pictures("two old pictures", "0.04", "dall-e-2", OLD_PICTURES, n=2),
    of_pictures("edited old pictures", "0.032", "dall-e-2", OLD_PICTURES, "/v1/images/edits", n="2", size="256x256"),
    of_pictures("wide old picture", "0.12", "dall-e-3", OLD_PICTURES, quality="hd", size="1792x1024"),
    BillCase("variations", "/v1/images/variations", {"n": "3", "size": "512x512"}, OLD_PICTURES, "0.054", is_form=True),
    # Sound: $0.006 a minute, $0.0045 a minute; $15 and $30 for a million characters
    of_transcript("transcript", "0.009", "whisper-1", **TRANSCRIPT_OF_90_SECONDS),
    of_transcript("newer transcript", "0.00675", "gpt-transcribe", **TRANSCRIPT_OF_90_SECONDS),
    of_speech("speech", "0.003", "tts-1", "x" * 200),
    of_speech("better speech", "0.006", "tts-1-hd", "x" * 200),
    of_speech("speech of letters of two bytes", "0.0015", "tts-1", "é" * 100),
    # 20 * 0.6 + 400 * 12
    BillCase("speech, streamed", SPEECH, {"model": "gpt-4o-mini-tts", "input": "hi", "stream_format": "sse"}, as_events(
        {"type": "speech.audio.delta", "audio": "aGVsbG8="},
        {"type": "speech.audio.done", "usage": {"input_tokens": 20, "output_tokens": 400, "total_tokens": 420}},
    ), "0.004812", content_type=EVENTS),
    # What upstream does not bill
    of_error("bad request", 400, error("No such parameter")),
    of_error("rate limit", 429, error("Slow down", "rate_limit_exceeded")),
    of_error("server error", 500, error("Oh"), CHAT),
    of_error("error with status 200", 200, error("Oh"), CHAT),
    BillCase("counting tokens", "/v1/responses/input_tokens", {"model": "gpt-5", "input": "hi"},
             b'{"object": "response.input_tokens", "input_tokens": 11}', "0"),
    unbilled("models", "GET", "/v1/models", {"object": "list", "data": []}),
    unbilled("conversation", "POST", "/v1/conversations", {"id": "conv_1", "object": "conversation", "created_at": 1}),
    unbilled("cancelling", "POST", "/v1/responses/resp_1/cancel", response("gpt-5", None, status="cancelled")),
    unbilled("unfinished response", "GET", "/v1/responses/resp_1", response("gpt-5", None, status="in_progress")),
    unbilled("deleted response", "DELETE", "/v1/responses/resp_1",
             {"id": "resp_1", "object": "response", "deleted": True}),
)  # fmt: skip
