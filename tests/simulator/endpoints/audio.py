"""`/audio/*`: transcriptions, translations and speech."""

import base64
from collections.abc import Iterator

from tests.simulator.call import Call
from tests.simulator.content import errors, prose
from tests.simulator.content import validation as rules
from tests.simulator.content.answers import Answer, Json, Stream, json_answer, text_answer, typed_event
from tests.simulator.content.tokens import count_tokens
from tests.simulator.endpoints import audio_formats as formats
from tests.simulator.endpoints import models
from tests.simulator.endpoints.audio_formats import Transcript
from tests.simulator.wire.multipart import Form, UploadedFile

_EXTENSIONS = ["flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm"]
_RESPONSE_FORMATS = ["json", "text", "srt", "verbose_json", "vtt", "diarized_json"]
_LANGUAGES = {"en": "english", "de": "german", "es": "spanish", "fr": "french", "uk": "ukrainian", "ru": "russian"}
_MOST_BYTES = 26_214_400
TRANSCRIPTION_FIELDS = {
    "model",
    "chunking_strategy",
    "include",
    "keywords",
    "known_speaker_names",
    "known_speaker_references",
    "language",
    "languages",
    "prompt",
    "response_format",
    "stream",
    "temperature",
    "timestamp_granularities",
}
_TRANSLATION_FIELDS = {"model", "prompt", "response_format", "temperature"}
SPEECH_PARAMETERS: dict[str, rules.Rule] = {
    "input": rules.TEXT,
    "model": rules.TEXT,
    "voice": rules.TEXT_OR_OBJECT,
    "instructions": rules.TEXT,
    "response_format": rules.one_of("mp3", "opus", "aac", "flac", "wav", "pcm"),
    "speed": rules.decimal(0.25, 4),
    "stream_format": rules.one_of("sse", "audio"),
}
_SPEECH_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav", "pcm": "audio/pcm"}
_MP3_FRAME = b"\xff\xfb\x90\x00" + bytes(413)


def _audio_file(form: Form) -> UploadedFile:
    audio = next((file for file in form.files if file.name == "file"), None)
    if audio is None:
        raise errors.missing("file")
    if len(audio.data) > _MOST_BYTES:
        raise errors.ApiError(
            413,
            f"413: Maximum content size limit ({_MOST_BYTES}) exceeded ({len(audio.data)} bytes read)",
            type="server_error",
        )
    if audio.filename.rpartition(".")[2].lower() not in _EXTENSIONS:
        errors.refuse(f"Unrecognized file format. Supported formats: {_EXTENSIONS}")
    if not audio.data:
        errors.refuse("Audio file is too short. Minimum audio length is 0.1 seconds.", "file", "audio_too_short")
    return audio


def _check_form(form: Form, known: set[str]) -> tuple[str, str]:
    """Checks the form of a transcription or translation as OpenAI does; returns the model and the response format."""
    unknown = [name for name in form.fields if name.partition("[")[0] not in known]
    if unknown:
        errors.refuse(f"Unrecognized request argument supplied: {', '.join(unknown)}")
    model = models.check_model(form.first("model") or None)
    response_format = form.first("response_format", "json")
    if response_format not in _RESPONSE_FORMATS:
        raise errors.invalid_value("response_format", response_format, _RESPONSE_FORMATS)
    if model != "whisper-1" and response_format not in {"json", "text"}:
        diarize = model.endswith("diarize") and response_format == "diarized_json"
        if not diarize:
            errors.refuse(
                f"response_format '{response_format}' is not compatible with model '{model}'. Use 'json' or 'text' "
                "instead.",
                "response_format",
                "unsupported_value",
            )
    try:
        temperature = float(form.first("temperature", "0"))
    except ValueError:
        raise rules.wrong_type("temperature", "a decimal", form.first("temperature")) from None
    rules.decimal(0, 1).check("temperature", temperature)
    return model, response_format


def _transcript(audio: UploadedFile, form: Form, call: Call) -> Transcript:
    language = form.first("language", "en")
    if len(language) not in {2, 3} and language not in _LANGUAGES.values():
        errors.refuse(
            f"Invalid language '{language}'. Language parameter must be specified in ISO-639-1 format.",
            "language",
            "invalid_language_format",
        )
    sentences: tuple[str, ...] = (
        "Hello, this is a transcription of the audio file.",
        f"It has {len(audio.data)} bytes — café ✓",
    )
    if call.fault.events is not None or call.fault.huge is not None:
        sentences = (prose.compose("", 0, 0, call.fault).text,)
    return Transcript(sentences, len(audio.data), _LANGUAGES.get(language, language))


def _written(transcript: Transcript, response_format: str, body: Json) -> Answer:
    if response_format == "text":
        return text_answer(transcript.text + "\n")
    if response_format == "srt":
        return text_answer(formats.srt(transcript))
    if response_format == "vtt":
        return text_answer(formats.vtt(transcript))
    return json_answer(body)


def create_transcription(call: Call) -> Answer | Stream:
    """Answers a request for a transcription, with a stream of events if the request asks for one.

    `stream` is ignored for whisper-1 (API reference).
    """
    form = call.form("gpt-4o-mini-transcribe" if _is_streamed_fault(call) else "whisper-1")
    model, response_format = _check_form(form, TRANSCRIPTION_FIELDS)
    transcript = _transcript(_audio_file(form), form, call)
    if form.first("stream").lower() == "true" and model != "whisper-1":
        return Stream([typed_event(event) for event in _events(transcript, response_format)], "typed")
    if response_format == "diarized_json":
        return json_answer(formats.diarized(transcript))
    granularities = form.fields.get("timestamp_granularities[]", [])
    usage = transcript.duration_usage() if model == "whisper-1" else transcript.token_usage()
    body: Json = {"text": transcript.text}
    if response_format == "verbose_json":
        body = formats.verbose(transcript, "transcribe", granularities)
    elif "logprobs" in form.fields.get("include[]", []):
        body["logprobs"] = [_logprob(piece) for piece in prose.text_draft(transcript.text).pieces]
    return _written(transcript, response_format, {**body, "usage": usage})


def _is_streamed_fault(call: Call) -> bool:
    """Returns whether a form asks for a stream; its model name `fault:…` then stands for a model that can stream."""
    try:
        return call.request.form.get("stream", [""])[0].lower() == "true"
    except ValueError:
        return False


def _logprob(piece: str) -> Json:
    return {"token": piece, "logprob": -0.125, "bytes": list(piece.encode())}


def _events(transcript: Transcript, response_format: str) -> Iterator[Json]:
    if response_format == "diarized_json":
        yield from formats.speaker_segments(transcript)
    for piece in prose.text_draft(transcript.text).pieces:
        yield {"type": "transcript.text.delta", "delta": piece}
    yield {"type": "transcript.text.done", "text": transcript.text, "usage": transcript.token_usage()}


def create_translation(call: Call) -> Answer:
    form = call.form("whisper-1")
    _, response_format = _check_form(form, _TRANSLATION_FIELDS)
    transcript = _transcript(_audio_file(form), form, call)
    body: Json = {"text": transcript.text}
    if response_format == "verbose_json":
        body = formats.verbose(transcript, "translate", [])
    return _written(transcript, response_format, body)


def create_speech(call: Call) -> Answer | Stream:
    body = call.json("gpt-4o-mini-tts")
    model = models.check_model(body.get("model"))
    rules.check_recognized(body, SPEECH_PARAMETERS)
    for name in ("input", "voice"):
        if not body.get(name):
            raise errors.missing(name)
    if len(body["input"]) > 4096:
        errors.refuse(
            "Invalid 'input': string too long. Expected a string with maximum length 4096, but got a string "
            f"with length {len(body['input'])} instead.",
            "input",
            "string_above_max_length",
        )
    audio = _MP3_FRAME * max(4, count_tokens(body["input"]))
    if body.get("stream_format") == "sse" and not model.startswith("tts-"):
        used, made = count_tokens(body["input"]), 10 * count_tokens(body["input"])
        usage = {"input_tokens": used, "output_tokens": made, "total_tokens": used + made}
        halves = (audio[: len(audio) // 2], audio[len(audio) // 2 :])
        events: list[Json] = [
            {"type": "speech.audio.delta", "audio": base64.b64encode(half).decode()} for half in halves
        ]
        return Stream(
            [typed_event(event) for event in [*events, {"type": "speech.audio.done", "usage": usage}]], "typed"
        )
    kind = body.get("response_format") or "mp3"
    return Answer(audio, content_type=_SPEECH_TYPES.get(kind, f"audio/{kind}"))
