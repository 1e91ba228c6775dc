"""The forms that `test_transparency` sends: written by hand, in many ways in which clients may write forms.

Forms that must be refused are in `ambiguous_forms`, those of real clients in `client_forms`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.inputs.varied_requests import Exchange, Sent

SOUND = b"\xff\xfb\x90\x00" + bytes(range(256)) * 20
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
BOUNDARY = b"the-boundary"
MODEL = (b'form-data; name="model"', b"gpt-4o-mini-transcribe")
WHISPER = (b'form-data; name="model"', b"whisper-1")
FILE = (b'form-data; name="file"; filename="speech.mp3"\r\nContent-Type: audio/mpeg', SOUND)

Parts = Sequence[tuple[bytes, bytes]]


def field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return b'form-data; name="%b"' % name, value


def write(parts: Parts, boundary: bytes = BOUNDARY) -> bytes:
    written = [b"--%b\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (boundary, head, content) for head, content in parts]
    return b"".join(written) + b"--%b--\r\n" % boundary


def raw(
    path: bytes, body: bytes, content_type: bytes = b'multipart/form-data; boundary="the-boundary"', chunk: int = 0
) -> Exchange:
    return (Sent("POST", path, (b"Content-Type: " + content_type,), body, chunk),)


def transcribe(*parts: tuple[bytes, bytes], chunk: int = 0) -> Exchange:
    return raw(b"/audio/transcriptions", write(parts), chunk=chunk)


def edit(*parts: tuple[bytes, bytes], chunk: int = 0) -> Exchange:
    return raw(b"/images/edits", write([field(b"model", b"gpt-image-1"), *parts]), chunk=chunk)


def image(disposition: bytes, content: bytes = PNG) -> tuple[bytes, bytes]:
    return b"form-data; " + disposition + b"\r\nContent-Type: image/png", content


WHOLE = write([MODEL, FILE])

FORMS: dict[str, Exchange] = {
    "transcription": transcribe(MODEL, FILE),
    "file before model": transcribe(FILE, MODEL),
    **{
        f"as {name}": transcribe(WHISPER, FILE, field(b"response_format", name.encode()))
        for name in ("json", "text", "srt", "vtt", "verbose_json")
    },
    "timestamps": transcribe(
        WHISPER, FILE, field(b"response_format", b"verbose_json"), field(b"timestamp_granularities[]", b"word"),
        field(b"timestamp_granularities[]", b"segment"),
    ),
    "streamed": transcribe(MODEL, FILE, field(b"stream", b"true")),
    "streamed, said first": transcribe(field(b"stream", b"True"), FILE, MODEL),
    "diarized": transcribe(
        field(b"model", b"gpt-4o-transcribe-diarize"), FILE, field(b"response_format", b"diarized_json")
    ),
    "translation": raw(b"/audio/translations", write([FILE, WHISPER])),
    "fields in UTF-8": transcribe(MODEL, FILE, field(b"prompt", "Jürgen, “Zoë” ✓\r\nsecond line".encode())),
    "fields not in UTF-8": transcribe(MODEL, FILE, field(b"prompt", b"\xff\xfe\0")),
    "empty field": transcribe(MODEL, FILE, field(b"prompt", b"")),
    "long field": transcribe(MODEL, FILE, field(b"prompt", b"word " * 40_000)),
    "unknown field": transcribe(MODEL, FILE, field(b"x_unknown", b"1")),
    "name in UTF-8": transcribe(MODEL, FILE, field("größe".encode(), b"1")),
    "name with quotes": transcribe(MODEL, FILE, field(b'a\\"b', b"1")),
    "name without quotes": transcribe((b"form-data; name=model", b"whisper-1"), FILE),
    "file name with quotes": transcribe(MODEL, (b'form-data; name="file"; filename="a\\"b; c.mp3"', SOUND)),
    "file name in UTF-8": transcribe(MODEL, ('form-data; name="file"; filename="Grüße ✓.mp3"'.encode(), SOUND)),
    "file name, RFC 8187": transcribe(
        MODEL, (b"form-data; name=\"file\"; filename=\"x.mp3\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.mp3", SOUND)
    ),
    "file name before name": transcribe(MODEL, (b'form-data; filename="a.mp3"; name="file"', SOUND)),
    "file name is a path": transcribe(MODEL, (b'form-data; name="file"; filename="C:\\\\x\\\\..\\\\a.mp3"', SOUND)),
    "empty file name": transcribe(MODEL, (b'form-data; name="file"; filename=""', SOUND)),
    "empty file": transcribe(MODEL, (FILE[0], b"")),
    "no file": transcribe(MODEL),
    "no parts": transcribe(),
    "unknown model": transcribe(field(b"model", b"gpt-nope"), FILE),
    "nearly a boundary in a file": transcribe(MODEL, (FILE[0], b"--the-boundar\r\n--The-boundary\r\n\r\n" + SOUND)),
    "part headers in capitals": raw(
        b"/audio/transcriptions", WHOLE.replace(b"Content-Disposition", b"CONTENT-DISPOSITION")
    ),
    "more part headers": raw(
        b"/audio/transcriptions",
        WHOLE.replace(b"audio/mpeg", b"audio/mpeg\r\nContent-Transfer-Encoding: binary\r\nX-Odd: \xc3\xbc"),
    ),
    "boundary without quotes": raw(
        b"/audio/transcriptions", WHOLE, b"Multipart/Form-Data;BOUNDARY=the-boundary; charset=utf-8"
    ),
    "odd boundary": raw(
        b"/audio/transcriptions",
        write([MODEL, FILE], b"'()+_,-./:=? x"),
        b"multipart/form-data; boundary=\"'()+_,-./:=? x\"",
    ),
    "line ends around it": raw(b"/audio/transcriptions", b"\r\n" + WHOLE + b"\r\n"),
    "no line end behind it": raw(b"/audio/transcriptions", WHOLE[:-2]),
    "100 parts": transcribe(*[field(b"x", b"%d" % number) for number in range(100)], MODEL, FILE),
    "chunked": transcribe(MODEL, FILE, chunk=1000),
    "chunked in single bytes": transcribe(MODEL, FILE, chunk=1),
    "chunked, file first": transcribe(FILE, MODEL, chunk=333),
    "20 MB": transcribe((FILE[0], SOUND * 4090), MODEL),
    "20 MB, chunked": transcribe(MODEL, (FILE[0], SOUND * 4090), chunk=65_536),
    "image edit": edit(image(b'name="image"; filename="a.png"'), field(b"prompt", b"a dog")),
    "several images": edit(
        *[image(b'name="image[]"; filename="%d.png"' % number) for number in range(4)],
        image(b'name="mask"; filename="m.png"'), field(b"prompt", b"x"), field(b"n", b"2"),
    ),
    "image edit, streamed": edit(
        image(b'name="image[]"; filename="a.png"'), field(b"prompt", b"x"), field(b"stream", b"true"),
        field(b"partial_images", b"2"), chunk=50,
    ),
    "image variation": raw(b"/images/variations", write([image(b'name="image"; filename="a.png"'), field(b"n", b"2")])),
    "on a get": (Sent("GET", b"/models", (b"Content-Type: multipart/form-data; boundary=x",)),),
}  # fmt: skip
