"""A table of streams of every kind that break off at every point, each with its dollars, computed by hand.

Until upstream has stated the usage, the dollars are those of the estimate that docs/ledger.md describes. Prices are
those of `tests.support.bills.usual_calls`, and these, in dollars per million tokens
(developers.openai.com/api/docs/pricing, a copy of 2026-11-28):

    gpt-3.5-turbo-instruct   1.50 in, 2 out          gpt-4o-transcribe   2.50 in, 10 out
    gpt-4o-mini-tts          0.60 in, 12 out         gpt-image-2         8 in (image, the dearest), 30 out

Requests of text have 400 bytes, which are 100 tokens. `SAID` has 40 bytes, which are 10 tokens. A model that reasons is
assumed to spend 2,000 tokens on that; gpt-6.1-sol at `minimal` effort 64, gpt-5 at `low` effort 500.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from openai.types import ImageEditPartialImageEvent, ImageGenPartialImageEvent
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent

from tests.support.bills.shapes import (
    CHAT,
    FILE_SEARCH,
    IMAGES,
    KNOWN,
    RESPONSES,
    SPEECH,
    WEB_SEARCH,
    as_events,
    chat_usage,
    checked,
    file_searched,
    image_tool,
    interpreter,
    made_pictures,
    picture_event,
    ran,
    response,
    searched,
)

COMPLETIONS, EDITS, TRANSCRIPTS = "/v1/completions", "/v1/images/edits", "/v1/audio/transcriptions"
REQUEST_BYTES = 400
SAID = "forty bytes of text, which are 10 tokens"
# One second of sound: 7,950 samples of one byte, 8,000 a second.
SOUND = b"RIFF\x32\x1f\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\x0e\x1f\0\0" + b"\x80" * 7950


class BrokenStream(NamedTuple):
    """A streamed call whose answer breaks off, with the cost that the ledger must have for it.

    The answer stops after `pieces`; they are None if not even its head comes. `dollars` is the cost, and `kind` its
    `cost_kind`. If `rate` (dollars per token) is given, upstream has also worked for some time: the output tokens that
    a model makes in that time are added to the cost.
    """

    name: str
    path: str
    body: bytes
    pieces: Sequence[bytes] | None
    dollars: str
    kind: str = "estimated"
    rate: str = "0"
    files: Sequence[tuple[str, bytes]] = ()
    form: dict[str, str] | None = None


def sized(asked: dict[str, Any], member: str = "input") -> bytes:
    """Returns a request's JSON body of exactly `REQUEST_BYTES`: `asked`, with text in `member` that fills it up."""

    def with_text(text: str) -> bytes:
        content: Any = [{"role": "user", "content": text}] if member == "messages" else text
        return json.dumps({**asked, member: content, "stream": True}).encode()

    return with_text(("word " * REQUEST_BYTES)[: REQUEST_BYTES - len(with_text(""))])


# Chat completions


def chunk(model: str, delta: dict[str, Any] | None = None, index: int = 0, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": None}]
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    return as_events({**event, "choices": choices, **more})


def of_chat(name: str, dollars: str, model: str, *deltas: dict[str, Any], **asked: Any) -> BrokenStream:
    pieces = [chunk(model, delta, number) for number, delta in enumerate(deltas)]
    asked = {"model": model, **asked, "stream_options": {"include_usage": True}}
    return BrokenStream(name, CHAT, sized(asked, "messages"), pieces, dollars)


def of_counted_chat(name: str, dollars: str, model: str, usage: dict[str, Any]) -> BrokenStream:
    """Makes the case of a streamed chat that breaks off after its usage, but before its last event, `[DONE]`."""
    case = of_chat(name, dollars, model, {"content": SAID})
    end = as_events({**json.loads(chunk(model)[6:]), "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return case._replace(pieces=[*(case.pieces or ()), end, chunk(model, usage=usage)], kind="exact")


def completion(name: str, dollars: str, *texts: str, usage: dict[str, Any] | None = None) -> BrokenStream:
    model = "gpt-3.5-turbo-instruct"
    event = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": model}
    pieces = [
        as_events({**event, "choices": [{"index": 0, "text": text, "finish_reason": "stop" if usage else None}]})
        for text in texts
    ]
    pieces += [as_events({**event, "choices": [], "usage": usage})] if usage else []
    kind = "exact" if usage else "estimated"
    asked = {"model": model, "stream_options": {"include_usage": True}}
    return BrokenStream(name, COMPLETIONS, sized(asked, "prompt"), pieces, dollars, kind)


# Responses


def of_response(
    name: str, dollars: str, model: str = "gpt-5", *items: dict[str, Any], said: str = SAID, ended: bool = False,
    tier: str = "default", tools: Sequence[Any] = (), **asked: Any,
) -> BrokenStream:  # fmt: skip
    """Makes the case of a streamed response that breaks off after its text and the events or items `items`.

    With `ended`, the stream has its last event, too.
    """
    identity = {"id": f"resp_{name.replace(' ', '_').replace(',', '')}", "tools": tools, "service_tier": tier}
    begun = response(model, None, status="in_progress", output=[], **identity)
    pieces = [as_events({"type": "response.created", "sequence_number": 0, "response": begun})]
    text = {"content_index": 0, "output_index": 0, "item_id": "msg_1", "logprobs": []}
    if said:
        pieces.append(as_events({"type": "response.output_text.delta", "sequence_number": 1, "delta": said, **text}))
    for item in items:
        event = {"type": "response.output_item.done", "sequence_number": 2, "output_index": 1, "item": item}
        pieces.append(as_events(item if "sequence_number" in item else event))
    if ended:
        made = response(model, KNOWN, **identity)
        pieces.append(as_events({"type": "response.completed", "sequence_number": 3, "response": made}))
    request = {"model": model, **({"tools": tools} if tools else {}), **asked}
    return BrokenStream(name, RESPONSES, sized(request), pieces, dollars, "exact" if ended else "estimated")


# The event that the image generation tool has made a picture does not say how large it is.
PICTURED = {
    "type": "response.image_generation_call.completed", "sequence_number": 2, "output_index": 1, "item_id": "ig_1"
}  # fmt: skip


# Pictures and sound


def partial(kind: str) -> bytes:
    event = {
        "type": kind, "b64_json": "aGVsbG8=", "background": "opaque", "created_at": 1, "output_format": "png",
        "partial_image_index": 0, "quality": "medium", "size": "1024x1024",
    }  # fmt: skip
    return as_events(checked(ImageEditPartialImageEvent if "edit" in kind else ImageGenPartialImageEvent, event))


def of_pictures(name: str, dollars: str, *pieces: bytes, kind: str = "estimated", n: int = 1) -> BrokenStream:
    # Of 400 bytes 20 are no small letters or spaces, of 408 with `"n": 3, ` 26: 20 + 380 / 2, 26 + 382 / 2.
    body = sized({"model": "gpt-image-2"}, "prompt")
    if n > 1:
        body = body.replace(b'"prompt"', b'"n": %d, "prompt"' % n)
    return BrokenStream(name, IMAGES, body, pieces, dollars, kind)


def of_edit(name: str, dollars: str, *pieces: bytes, kind: str = "estimated", n: int = 1) -> BrokenStream:
    form = {"model": "gpt-image-2", "prompt": "word word", "stream": "true"} | ({"n": str(n)} if n > 1 else {})
    return BrokenStream(name, EDITS, b"", pieces, dollars, kind, files=[("image", b"\x89PNG" + b"0" * 100)], form=form)


def of_speech(name: str, dollars: str, *events: dict[str, Any], kind: str = "estimated") -> BrokenStream:
    asked = {"model": "gpt-4o-mini-tts", "input": "hi there", "voice": "alloy", "stream_format": "sse"}
    return BrokenStream(name, SPEECH, json.dumps(asked).encode(), [as_events(event) for event in events], dollars, kind)


def of_characters(name: str, *pieces: bytes) -> BrokenStream:
    """Makes the case of speech that is billed by its characters, which only the request states."""
    asked = {"model": "tts-1", "input": "hi there", "voice": "alloy"}
    return BrokenStream(name, SPEECH, json.dumps(asked).encode(), pieces, "0.00012")  # 8 * 15 millionths


def of_counted_picture(name: str, *pieces: bytes) -> BrokenStream:
    asked = {"model": "dall-e-3", "prompt": "a cat", "quality": "hd", "size": "1024x1792"}
    return BrokenStream(name, IMAGES, json.dumps(asked).encode(), pieces, "0.12")


def of_transcript(name: str, dollars: str, *events: dict[str, Any], kind: str = "estimated") -> BrokenStream:
    pieces = [as_events(event) for event in events]
    form = {"model": "gpt-4o-transcribe", "stream": "true"}
    return BrokenStream(name, TRANSCRIPTS, b"", pieces, dollars, kind, files=[("file", SOUND)], form=form)


SPOKEN = {"type": "speech.audio.delta", "audio": "aGVsbG8="}
HEARD = checked(TranscriptionTextDeltaEvent, {"type": "transcript.text.delta", "delta": SAID})
TRANSCRIBED = checked(TranscriptionTextDoneEvent, {
    "type": "transcript.text.done", "text": SAID,
    "usage": {"type": "tokens", "input_tokens": 100, "output_tokens": 20, "total_tokens": 120,
              "input_token_details": {"audio_tokens": 90, "text_tokens": 10}},
})  # fmt: skip
ONE_PICTURE = as_events(picture_event(made_pictures(50, 0, 1000)))
ONE_EDIT = as_events(picture_event(made_pictures(50, 300, 1000), "image_edit.completed"))
PARTIAL, PARTIAL_EDIT = partial("image_generation.partial_image"), partial("image_edit.partial_image")
CALLED = {
    "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": SAID}}]
}

CASES: tuple[BrokenStream, ...] = (
    of_chat("chat, no head", "0.000015", "gpt-4o-mini")._replace(pieces=None),  # 100 * 0.15
    of_chat("chat, head", "0.000015", "gpt-4o-mini"),
    of_chat("chat, text", "0.000021", "gpt-4o-mini", {"content": SAID}),  # 100 * 0.15 + 10 * 0.6
    of_chat("chat, two choices", "0.000027", "gpt-4o-mini", {"content": SAID}, {"content": SAID}, n=2),
    of_chat("chat, refusal", "0.000021", "gpt-4o-mini", {"refusal": SAID}),
    of_chat("chat, call of a function", "0.000021", "gpt-4o-mini", CALLED),
    # Text or sound, nobody knows: all is taken to be the dearer, sound. 100 * 32 + 10 * 64
    of_chat("chat, sound", "0.00384", "gpt-audio", {"audio": {"id": "a", "transcript": SAID}}),
    of_chat("reasoning chat, no head", "0.020125", "gpt-5")._replace(pieces=None),  # 100 * 1.25 + 2000 * 10
    of_chat("reasoning chat, head", "0.020125", "gpt-5"),
    of_chat("reasoning chat, text", "0.020225", "gpt-5", {"content": SAID}),  # 100 * 1.25 + 2010 * 10
    of_chat("reasoning chat, limit", "0.003125", "gpt-5", {"content": SAID}, max_completion_tokens=300),
    of_chat("reasoning chat, low", "0.005225", "gpt-5", {"content": SAID}, reasoning_effort="low"),  # 125 + 5100
    of_chat("reasoning chat, shown", "0.000225", "gpt-5", {"reasoning_content": SAID}),  # 125 + 10 * 10
    of_counted_chat("chat, counted", "0.00021", "gpt-4o-mini", chat_usage(1000, 100)),  # 1000 * 0.15 + 100 * 0.6
    completion("completion, head", "0.00015"),  # 100 * 1.5
    completion("completion, text", "0.00017", SAID),  # 100 * 1.5 + 10 * 2
    completion("completion, counted", "0.00025", SAID,
               usage={"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}),
    of_response("response, no head", "0.020125")._replace(pieces=None),
    of_response("response, head", "0.020125")._replace(pieces=()),
    of_response("response, created", "0.020125", said=""),
    of_response("response, text", "0.020225"),
    of_response("response, flex", "0.0101125", tier="flex"),  # half of it
    of_response("response, minimal", "0.00094", "gpt-6.1-sol", reasoning={"effort": "minimal"}),  # 100 * 2 + 74 * 10
    of_response("response, limit", "0.003125", max_output_tokens=300),
    of_response("response, counted", "0.00225", ended=True),  # 1000 * 1.25 + 100 * 10
    # What tools have done until then: 20,225 and 2 * 10,000; 2,500; 7,500 for five minutes; 7024 * 30
    of_response("response, searched", "0.040225", "gpt-5", searched(1), searched(2), tools=[WEB_SEARCH]),
    of_response("response, files", "0.022725", "gpt-5", file_searched(1), tools=[FILE_SEARCH]),
    of_response("response, code", "0.027735", "gpt-5", ran(1, "cntr_1"), tools=[interpreter()]),  # a token of code
    of_response("response, picture", "0.230945", "gpt-5", PICTURED, tools=[image_tool("gpt-image-2")]),
    # 20 + 380 / 2 + 64 = 274 tokens at 8, and 30 for each token that can have been made
    of_pictures("picture, head", "0.002192")._replace(rate="0.00003"),
    of_pictures("picture, partial", "0.002192", PARTIAL)._replace(rate="0.00003"),
    of_pictures("picture, counted", "0.03025", ONE_PICTURE, kind="exact"),  # 50 * 5 + 1000 * 30
    # Each of the three is taken to be as large as the one that has come: 3 * 30,250
    of_pictures("one picture of three", "0.09075", ONE_PICTURE, n=3),
    # "gpt-image-2" 7, "word word" 5 and "true" 2 tokens, 64 and 16,384 for the picture: 16,462 * 8
    of_edit("edit, head", "0.131696")._replace(rate="0.00003"),
    of_edit("edit, partial", "0.131696", PARTIAL_EDIT)._replace(rate="0.00003"),
    of_edit("edit, counted", "0.03265", ONE_EDIT, kind="exact"),  # 50 * 5 + 300 * 8 + 1000 * 30
    of_edit("one edit of two", "0.0653", ONE_EDIT, n=2),
    # Eight characters: 2 * 0.6 + 16 * 12
    of_speech("speech, head", "0.0001932"),
    of_speech("speech, begun", "0.0001932", SPOKEN),
    of_speech("speech, counted", "0.004812", SPOKEN, {  # 20 * 0.6 + 400 * 12
        "type": "speech.audio.done", "usage": {"input_tokens": 20, "output_tokens": 400, "total_tokens": 420}},
        kind="exact"),
    of_characters("speech by characters, no head")._replace(pieces=None),
    of_characters("speech by characters, head"),
    of_characters("speech by characters, begun", b"\xff\xfb\x90\x00"),
    of_counted_picture("picture by number, no head")._replace(pieces=None),
    of_counted_picture("picture by number, head"),
    # "gpt-4o-transcribe" 10 and "true" 2 tokens, 64, and 10 for the second of sound: 86 * 2.5; 5 + 64 come out of it
    of_transcript("transcript, head", "0.000905"),
    of_transcript("transcript, text", "0.000315", HEARD),  # 86 * 2.5 + 10 * 10
    of_transcript("transcript, counted", "0.00045", HEARD, TRANSCRIBED, kind="exact"),  # 100 * 2.5 + 20 * 10
)  # fmt: skip
