"""Serves `POST /openai/audio/transcriptions`: takes a form with audio; answers text, subtitles, JSON or a stream.

If the key is in a header or in the query, the form goes upstream while it arrives, without the gateway's own fields.
These fields are needed before anything goes upstream, so a form longer than `BEGINNING_BYTES` must have them in its
beginning. If the key is in the form, the whole form is received first. The caller's time limit ends a call whose form
is still arriving, even if its key has a budget.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from pathlib import PurePosixPath

from django.conf import settings
from django.http.response import HttpResponseBase

from proxyapi import openapi
from proxyapi.bodies.form_cutter import FormEdits, text_field
from proxyapi.bodies.request_encoding import encoding_of
from proxyapi.call import gateway_fields
from proxyapi.call.call_request import CallRequest, ProxyRequest
from proxyapi.call.parsers import FormType
from proxyapi.call.uploads import FormUpload
from proxyapi.dispatch.authentication import is_key_of
from proxyapi.dispatch.base_view import BodyUse
from proxyapi.dispatch.form_view import FormView
from proxyapi.exceptions import BadRequest, BodyTooLarge
from proxyapi.routes import find_route
from proxyapi.streams.relay import ERROR_OBJECT
from proxyapi.unauthenticated.key_search import KeySearch
from proxyapi.upstream.request import UpstreamRequest
from usage.kept_bodies.body_excerpts import PartExcerpt

DEFAULT_MODEL = "whisper-1"
UPSTREAM_PATH = "/audio/transcriptions"
BEGINNING_BYTES = 1024 * 1024


class TranscriptionEdits(FormEdits):
    """The changes to a form with an audio file while the form is sent upstream.

    The gateway's own fields are removed. A file without a `Content-Type` gets one, and a form that names no model gets
    a default model.
    """

    def is_cut(self, part: PartExcerpt, *, is_whole: bool) -> bool | None:
        name = part.name.decode()
        if part.file_name is None and name == "model":
            return part.size == 0 if part.size or is_whole else None  # an empty name is none
        return part.file_name is None and name in gateway_fields.GATEWAY_FIELDS

    def added_header(self, part: PartExcerpt) -> bytes:
        """Returns the line `Content-Type: …` to add to a file in the form.

        Empty for a file that has a type, and for a field. The type is guessed from the suffix of the file's name.
        """
        if part.file_name is None or part.media_type:
            return b""
        # By the suffix alone: `mimetypes` reads a name such as `data:…` or `//[…` as a URL, and may raise an error.
        # As OpenAI's SDK guesses it.
        known = mimetypes.guess_type("file" + PurePosixPath(part.file_name.decode()).suffix)[0]
        return b"Content-Type: " + (known or "application/octet-stream").encode()

    def added_fields(self, parts: Sequence[PartExcerpt]) -> list[PartExcerpt]:
        return [] if any(part.name == b"model" for part in parts) else [text_field("model", DEFAULT_MODEL)]


EDITS = TranscriptionEdits()


class TranscriptionsView(FormView):
    route = "/openai/audio/transcriptions"
    body_use = BodyUse.WHOLE
    parser_classes = (FormType,)
    form: FormUpload

    async def receive(self, call: CallRequest, search: KeySearch | None) -> None:
        """Receives the whole body if a valid key must be searched for in it (`search` is not None).

        Otherwise receives nothing: `parse` receives the form later.
        """
        if search is not None:
            await super().receive(call, search)

    async def parse(self, request: ProxyRequest) -> None:
        """Receives the form's first `BEGINNING_BYTES`, and stores the fields found there in `request.data`."""
        call = request.call_request
        self.call.facts.form = self.form = FormUpload(
            call.incoming_body,
            call.raw_headers,
            self.check_form,
            encoding_of(call.META),
            edits=EDITS,
            received=call.decoded_body,
        )
        call.resources.at_end(self.form.forget)
        await self.form.receive(BEGINNING_BYTES)
        call.mark_body_received()
        request.data = self.form.received_fields()

    @openapi.transcribe
    async def post(self, request: ProxyRequest) -> HttpResponseBase:
        upstream_request = UpstreamRequest(
            "POST",
            UPSTREAM_PATH,
            credentials=gateway_fields.credentials(request.data, request.query_params, request.caller),
            deadline=gateway_fields.deadline(request.data, request.query_params),
            upload=self.form,
        )
        return await self.forward(upstream_request, ERROR_OBJECT)

    async def check_form(self, form: FormUpload) -> None:
        """Checks that a whole form is valid and that the caller's key may send it; reserves dollars for the call.

        The form must have a file called `file`, and no other file. Raises `BadRequest` and `BodyTooLarge` for an
        invalid form, and the errors of `admit_form`.
        """
        files = [part for part in form.parts if part.file_name is not None]
        if not any(part.name == b"file" and part.file_name for part in files):
            raise BadRequest("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
        for part in files:
            if part.name != b"file":
                name = part.name.decode()
                raise BadRequest(f"Invalid '{name}': expected a field, not a file.", param=name, code="invalid_type")
        if sum(part.size for part in form.parts if part.file_name is None) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise BodyTooLarge("The form's fields, beside the file, are too large.")
        self.check_late_fields(form)
        route = find_route(UPSTREAM_PATH)
        assert route is not None  # noqa: S101  (it is one of OpenAI's)
        await self.admit_form(form, route, "")

    def check_late_fields(self, form: FormUpload) -> None:
        """Refuses a form in which a field that the gateway needs first, such as `timeout`, comes too late.

        The fields in `NEEDED_FIRST` must be in the first `BEGINNING_BYTES` of the form, unless they are empty. A late
        `security_key` is accepted if it is a valid secret of the caller's key.

        Raises:
            BadRequest: a field has come too late.
        """
        # The beginning is read before anything goes upstream. These fields say who calls, who pays, or how long the
        # call may take.
        in_time = self.request.data
        for name, value in form.received_fields().items():
            if not value or name in in_time or name not in gateway_fields.NEEDED_FIRST:
                continue
            if name != "security_key" or not is_key_of(value, self.caller):
                words = f"Invalid '{name}': a form of more than 1 MiB must have this field in front of its file."
                raise BadRequest(words, param=name)
