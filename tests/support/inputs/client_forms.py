"""The forms that common clients send, as bytes.

Forms of clients with a version were captured; the others follow the clients' source code. Except for the odd ones, each
has a model, and a file `Grüße "1".mp3` with the content `RIFF`.
"""

from __future__ import annotations

from dataclasses import dataclass

NAME = "Grüße".encode()


@dataclass(frozen=True)
class ClientForm:
    """A form as a client sends it: the body, and the Content-Type header of the request.

    `fields` are the names and values that a reader must find in the form, apart from files.
    """

    content_type: bytes
    body: bytes
    fields: tuple[tuple[str, str], ...] = (("model", "whisper-1"),)


def form(boundary: bytes, *parts: bytes, end: bytes = b"\r\n", quoted: bool = False, **rest: object) -> ClientForm:
    """Makes a multipart form of the given parts, each of which contains its own headers.

    `end` are the bytes behind the last boundary. With `quoted` the boundary is in quotes in the Content-Type. `rest`
    are other members of `ClientForm`.
    """
    written = [b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts]
    content_type = b'multipart/form-data; boundary="%b"' if quoted else b"multipart/form-data; boundary=%b"
    return ClientForm(content_type % boundary, b"".join(written) + b"--" + boundary + b"--" + end, **rest)  # type: ignore[arg-type]  # `fields`


def field(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    return b'Content-Disposition: form-data; name="%b"\r\n%b\r\n%b' % (name, more, value)


MODEL = field(b"model", b"whisper-1")
WORD, SEGMENT = (field(b"timestamp_granularities[]", value) for value in (b"word", b"segment"))
GRANULARITIES = (("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment"))
FILE = (
    b'Content-Disposition: form-data; name="file"; filename="%b %%221%%22.mp3"\r\nContent-Type: audio/mpeg\r\n\r\nRIFF'
    % NAME
)
PLAIN_FILE = FILE.replace(b" %221%22", b"").replace(NAME, b"audio")
UTF_8 = b"Content-Type: text/plain; charset=utf-8\r\n"

CLIENTS: dict[str, ClientForm] = {
    "openai 3.54 for Python": form(
        b"d447d13aa443a5329e4292fa3b6f1e9c",
        MODEL,
        field(b"chunking_strategy[type]", b"server_vad"),
        WORD,
        SEGMENT,
        FILE,
        fields=(("model", "whisper-1"), ("chunking_strategy[type]", "server_vad"), *GRANULARITIES),
    ),
    "openai for Python, file without a name": form(
        b"204ef4ada801fbcb35d618594855e264",
        MODEL,
        b'Content-Disposition: form-data; name="file"; filename="upload"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\nRIFF",
    ),
    "openai for Python, images": form(
        b"fcad92178962b8308bc696346ddc6d50",
        field(b"prompt", "ü".encode()),
        field(b"model", b"whisper-1"),
        field(b"n", b"2"),
        *(
            b'Content-Disposition: form-data; name="image[]"; filename="%b.png"\r\nContent-Type: image/png\r\n\r\nPNG'
            % a
            for a in (b"a", b"b")
        ),
        fields=(("prompt", "ü"), ("model", "whisper-1"), ("n", "2")),
    ),
    "httpx 0.28": form(
        b"dfbdb80f54491f928be2a53d0c014df5", MODEL, WORD, SEGMENT, FILE, fields=(("model", "whisper-1"), *GRANULARITIES)
    ),
    "requests 2.34, urllib3 2.8": form(b"110db0212d91884ce44dbfa332819b6b", MODEL, FILE),
    "aiohttp 3.14": form(
        b"2cd6b28b400d4d8aad51bf81d5c01915",
        UTF_8 + MODEL,
        b"Content-Type: audio/mpeg\r\n"
        b'Content-Disposition: form-data; name="file"; filename="Gr%C3%BC%C3%9Fe%20%221%22.mp3"\r\n\r\nRIFF',
    ),
    "aiohttp 3.14, quote_fields=False": form(
        b"fb2d7e2ca9b84128a1ecc483153519aa",
        UTF_8 + MODEL,
        b"Content-Type: audio/mpeg\r\n"
        b'Content-Disposition: form-data; name="file"; filename="%b \\"1\\".mp3"\r\n\r\nRIFF' % NAME,
    ),
    "curl 7.88": form(
        b"------------------------a9541c5ca0569495",
        MODEL,
        FILE,
        WORD,
        fields=(("model", "whisper-1"), GRANULARITIES[0]),
    ),
    "curl before 7.81": form(b"------------------------a9541c5ca0569495", MODEL, FILE.replace(b"%221%22", b'\\"1\\"')),
    "undici of node 20, also openai for node": form(
        b"----formdata-undici-055612155970", MODEL, FILE, WORD, SEGMENT, fields=(("model", "whisper-1"), *GRANULARITIES)
    ),
    "undici, no fields": form(b"----formdata-undici-021798370016", fields=()),
    "form-data of npm": form(b"--------------------------604ffe9ab05d61c5a287d7b5", MODEL, FILE),
    "axios 1.21": form(b"axios-1.21.1-boundary-ReNQNvOXxjnJGD1o-jEGNLOiw", MODEL, FILE),
    "axios 1.21, postForm": form(
        b"--------------------------ee3695ae15df741ec436fdd8",
        MODEL,
        field(b"arr[]", b"a"),
        field(b"arr[]", b"b"),
        field(b"o[x]", b"1"),
        FILE,
        fields=(("model", "whisper-1"), ("arr[]", "a"), ("arr[]", "b"), ("o[x]", "1")),
    ),
    "browsers (WHATWG)": form(b"----WebKitFormBoundary7MA4YWxkTrZu0gW", MODEL, FILE),
    "Go, mime/multipart": form(
        b"8f3a1b2c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6",
        MODEL,
        b'Content-Disposition: form-data; name="file"; filename="%b \\"1\\".mp3"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\nRIFF" % NAME,
    ),
    "Java, openai": form(
        b"0d6c9c3e-55a4-4a4e-8d2a-0b3e3f1e8a55",
        field(b"model", b"whisper-1", b"Content-Type: text/plain\r\n"),
        FILE.replace(b"audio/mpeg", b"application/octet-stream"),
    ),
    "Java, OkHttp": form(
        b"3d8f6d3a-0d0c-4c85-8c1f-3f6d2f7f1c0e",
        field(b"model", b"whisper-1", b"Content-Length: 9\r\n"),
        FILE.replace(b"audio/mpeg", b"audio/mpeg\r\nContent-Length: 4"),
    ),
    "Java, Retrofit": form(
        b"3d8f6d3a-0d0c-4c85-8c1f-3f6d2f7f1c0e",
        b'Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: binary\r\n'
        b"Content-Type: text/plain; charset=UTF-8\r\nContent-Length: 9\r\n\r\nwhisper-1",
        FILE,
    ),
    "Java, Apache HttpClient": form(
        b"-b5PpEWE1Lbqu8GoRQdMYuM2VXNPYG0",
        b'Content-Disposition: form-data; name="model"\r\nContent-Type: text/plain; charset=ISO-8859-1\r\n'
        b"Content-Transfer-Encoding: 8bit\r\n\r\nwhisper-1",
        PLAIN_FILE.replace(b"audio/mpeg", b"audio/mpeg\r\nContent-Transfer-Encoding: binary"),
    ),
    "Java, Spring": form(
        b"h0oMYxAjMqmKuXAuH6GtNLRhL1wZRlXkb",
        b'Content-Disposition: form-data; name="model"\r\nContent-Type: text/plain;charset=UTF-8\r\n'
        b"Content-Length: 9\r\n\r\nwhisper-1",
        PLAIN_FILE.replace(b"audio/mpeg", b"audio/mpeg\r\nContent-Length: 4"),
    ),
    "Kotlin, Ktor": form(
        b"-5f3a9b1c7d2e-6a4b3c2d1e0f-1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6",
        b"Content-Disposition: form-data; name=model\r\nContent-Length: 9\r\n\r\nwhisper-1",
        b'Content-Disposition: form-data; name=file; filename="%b 1.mp3"\r\nContent-Type: audio/mpeg\r\n\r\nRIFF'
        % NAME,
    ),
    ".NET, openai": form(
        b"a=b_" * 17 + b"cd",
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=model\r\n\r\nwhisper-1",
        b'Content-Disposition: form-data; name=file; filename="=?utf-8?B?R3LDvMOfZS5tcDM=?="; '
        b"filename*=utf-8''Gr%C3%BC%C3%9Fe.mp3\r\n\r\nRIFF",
        quoted=True,
    ),
    ".NET, with a date": form(
        b"----------------8d9c0a3f2b1e4d5",
        b'Content-Disposition: form-data; name="model"\r\n\r\nwhisper-1',
        b"Content-Disposition: form-data; name=file; filename=audio.mp3; filename*=utf-8''audio.mp3\r\n"
        b"Content-Type: audio/mpeg\r\n\r\nRIFF",
        quoted=True,
    ),
    "Rust, reqwest": form(
        b"5b0c2d8b1e4f6a7c-0a1b2c3d4e5f6a7b-1122334455667788-99aabbccddeeff00",
        MODEL,
        b'Content-Disposition: form-data; name="file"; filename="%b \\"1\\".mp3"\r\n'
        b"Content-Type: audio/mpeg\r\n\r\nRIFF" % NAME,
    ),
    "Ruby, multipart-post": form(
        b"-----------RubyMultipartPost-0f1e2d3c4b5a69788796a5b4c3d2e1f0",
        MODEL,
        b'Content-Disposition: form-data; name="file"; filename="audio.mp3"\r\nContent-Length: 4\r\n'
        b"Content-Type: audio/mpeg\r\nContent-Transfer-Encoding: binary\r\n\r\nRIFF",
    ),
    "Ruby, multipart-post of old": form(b"-----------RubyMultipartPost", MODEL, PLAIN_FILE, end=b"\r\n\r\n"),
    "Dart, http": form(
        b"dart-http-boundary-9S5hQJ0rG3Mk2mZ0pXo0cZ2b4mVq1uN7LwY8tR6yE3iKjHgFdSa",
        b'content-disposition: form-data; name="model"\r\n\r\nwhisper-1',
        b'content-type: audio/mpeg\r\ncontent-disposition: form-data; name="file"; filename="audio.mp3"\r\n\r\nRIFF',
    ),
    "Dart, http, beyond ASCII": form(
        b"dart-http-boundary-9S5hQJ0rG3Mk2mZ0pXo0cZ2b4mVq1uN7LwY8tR6yE3iKjHgFdSa",
        b'content-disposition: form-data; name="model"\r\n\r\nwhisper-1',
        b'content-disposition: form-data; name="prompt"\r\ncontent-type: text/plain; charset=utf-8\r\n'
        b"content-transfer-encoding: binary\r\n\r\n" + NAME,
        PLAIN_FILE,
        fields=(("model", "whisper-1"), ("prompt", "Grüße")),
    ),
    "PHP, Guzzle": form(
        b"578de3b0e3c46.2334ba3",
        field(b"model", b"whisper-1", b"Content-Length: 9\r\n"),
        PLAIN_FILE.replace(b"audio/mpeg", b"audio/mpeg\r\nContent-Length: 4"),
    ),
    "written by hand, a line end first and none last": ClientForm(
        b"Multipart/Form-Data;BOUNDARY=*****; charset=utf-8",
        b"\r\n--*****\r\n" + MODEL + b"\r\n--*****\r\n" + PLAIN_FILE + b"\r\n--*****--",
    ),
}
