"""Serves `POST /openai/audio/transcriptions`: a form up; text, subtitles, JSON or a stream down."""

from __future__ import annotations

import asyncio
import re

from django.core.files.uploadedfile import UploadedFile
from django.http.response import HttpResponseBase

from proxyapi import openapi
from proxyapi.call import gateway_fields
from proxyapi.call.call_request import ProxyRequest
from proxyapi.call.parsers import FormParser
from proxyapi.dispatch.base_view import BodyUse
from proxyapi.dispatch.call_view import CallView
from proxyapi.exceptions import BadRequest
from proxyapi.streams.relay import ERROR_OBJECT
from proxyapi.upstream.request import FormPart, UpstreamRequest

DEFAULT_MODEL = "whisper-1"
PRINTABLE = re.compile(r"[\x20-\x7e]*")


class TranscriptionsView(CallView):
    route = "/openai/audio/transcriptions"
    body_use = BodyUse.WHOLE
    parser_classes = (FormParser,)

    async def parse(self, request: ProxyRequest) -> None:
        await asyncio.to_thread(lambda: request.data)  # 25 MiB are too many for the event loop

    @openapi.transcribe
    async def post(self, request: ProxyRequest) -> HttpResponseBase:
        upload = request.data.get("file")
        if not isinstance(upload, UploadedFile):
            raise BadRequest("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
        for name in request.FILES:
            if name != "file":
                raise BadRequest(f"Invalid '{name}': expected a field, not a file.", param=name, code="invalid_type")
        self.call.facts.model = request.data.get("model") or DEFAULT_MODEL
        self.call.facts.stream = request.data.get("stream", "").lower() == "true"
        upstream_request = UpstreamRequest(
            "POST",
            "/audio/transcriptions",
            credentials=gateway_fields.credentials(request.data, request.query_params, request.caller),
            deadline=gateway_fields.deadline(request.data, request.query_params),
            form=form_parts(request, upload, self.call.facts.model),
        )
        return await self.forward(upstream_request, ERROR_OBJECT)


def form_parts(request: ProxyRequest, upload: UploadedFile[bytes], model: str) -> list[FormPart]:
    """Returns the parts of the form that asks upstream for a transcription of the file `upload`.

    They are `model`, the caller's other fields in their order, and the file. Fields that are for the gateway, such as
    `security_key`, are left out.
    """
    texts = [(name, value) for name, values in request.POST.lists() for value in values]
    parts: list[FormPart] = [
        (name, (None, value.encode(), None))
        for name, value in texts
        if name not in gateway_fields.GATEWAY_FIELDS and name != "model"
    ]
    file = (upload.name, upload.read(), content_type(upload))
    return [("model", (None, model.encode(), None)), *parts, ("file", file)]


def content_type(upload: UploadedFile[bytes]) -> str | None:
    """Returns the Content-Type that the caller gave an uploaded file, with its parameters; None if there is none.

    A browser's recording has parameters: `audio/webm;codecs=opus`.

    Raises:
        BadRequest: the content type has control characters.
    """
    given = [(name, value.decode("utf-8", "replace")) for name, value in (upload.content_type_extra or {}).items()]
    parameters = [f"{name}={value}" for name, value in given if gateway_fields.HEADER_TOKEN.fullmatch(value)]
    joined = "; ".join([upload.content_type or "", *parameters])
    if not PRINTABLE.fullmatch(joined):
        raise BadRequest("Invalid 'file': its content type has control characters.", param="file")
    return joined or None
