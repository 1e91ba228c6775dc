"""Converts chats of the simple API that do not have OpenAI's form: those with an image, and all of `/chatgpt`."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from uuid import uuid4

from django.conf import settings

from proxyapi.bodies import large_bodies
from proxyapi.call.gateway_fields import check_number, require
from proxyapi.exceptions import BadRequest, BodyTooLarge

CHATGPT_SYSTEM_MESSAGE = "You are an AI assistant."
IMAGE_SIGNATURES = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


def refuse_stream(data: Mapping[str, object]) -> None:
    """Raises `BadRequest` if the body of a request asks for a stream; for endpoints without streams."""
    if data.get("stream"):
        raise BadRequest("Streaming is not supported on this endpoint.", param="stream", code="stream_not_supported")


def add_image(messages: list[object], image: object) -> list[object]:
    """Returns a copy of a chat's `messages` with an image in the last user message, or in a new one at the end.

    Raises:
        BadRequest: `image` has neither a `url` nor a `base64` string.
    """
    part = {"type": "image_url", "image_url": {"url": image_url(image)}}
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if isinstance(message, dict) and message.get("role") == "user":
            joined = {**message, "content": [*_parts(message.get("content")), part]}
            return [*messages[:index], joined, *messages[index + 1 :]]
    return [*messages, {"role": "user", "content": [part]}]


def image_url(image: object) -> str:
    """Returns the URL of an image for a chat message: the `url` in `image`, or a `data:` URL made of its `base64`.

    Raises:
        BadRequest: `image` has neither.
    """
    fields = image if isinstance(image, dict) else {}
    url, encoded = fields.get("url"), fields.get("base64")
    encoded = encoded.strip() if isinstance(encoded, str) else encoded
    if isinstance(url, str) and url:
        return url
    if isinstance(encoded, str) and encoded:
        return encoded if encoded.startswith("data:") else f"data:{media_type(encoded)};base64,{encoded}"
    raise BadRequest("Invalid 'image': expected an object with a 'url' or a 'base64' string.", param="image")


def media_type(encoded: str) -> str:
    """Returns the media type of a base64-encoded image, judged by the image's first bytes; `image/png` if unknown."""
    try:
        start = base64.b64decode(encoded[:16])
    except (binascii.Error, ValueError):
        start = b""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    return next((name for signature, name in IMAGE_SIGNATURES if start.startswith(signature)), "image/png")


def _parts(content: object) -> list[object]:
    """Converts the content of a chat message to a list of parts. A list is returned as it is.

    A text becomes a list of one part. None and an empty text become an empty list.
    """
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def chatgpt_body(data: Mapping[str, object]) -> dict[str, object]:
    """Converts the body of a request to `/chatgpt` to the body of a chat completion for upstream.

    Fields that `/chatgpt` does not know are left out.

    Raises:
        BadRequest: a field is missing, of a wrong type or out of range, or the body asks for a stream.
    """
    refuse_stream(data)
    prompt = require(data, "prompt", str, "a non-empty string")
    for name in ("model", "systemMessage"):
        if data.get(name) is not None:
            require(data, name, str, "a non-empty string")
    check_number(data, "temperature", 0, 2)
    check_number(data, "top_p", 0, 1)
    check_number(data, "max_tokens", 1, math.inf, whole=True)
    check_number(data, "max_completion_tokens", 1, math.inf, whole=True)
    options = ("temperature", "top_p", "max_tokens", "max_completion_tokens")
    return {
        "model": data.get("model") or settings.DEFAULT_MODEL,
        "messages": [
            {"role": "system", "content": data.get("systemMessage") or CHATGPT_SYSTEM_MESSAGE},
            {"role": "user", "content": prompt},
        ],
        **{name: data[name] for name in options if data.get(name) is not None},
    }


def chatgpt_answer(completion: bytes) -> bytes:
    """Converts upstream's chat completion to the answer of `/chatgpt`, in the form of the npm library `chatgpt`.

    A text that is no chat completion, or is too complex to be parsed in a short time, is returned unchanged.
    """
    try:
        # Reading more values than a request's body may have would take too long.
        if len(completion) > large_bodies.LARGE_BYTES:
            large_bodies.check_bounds(completion)
        detail = json.loads(completion)
        message = detail["choices"][0]["message"]
        answer = {
            "role": message.get("role") or "assistant",
            "id": detail.get("id"),
            "parentMessageId": str(uuid4()),
            "text": message.get("content") or "",
            "detail": detail,
        }
        return json.dumps(answer).encode()
    except (BodyTooLarge, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return completion
