"""Whatever form the gateway accepts, three other readers read as it does: the same names, with the same contents."""

from __future__ import annotations

import importlib.util
from email.parser import Parser
from importlib.metadata import distribution
from io import BytesIO
from typing import Any

import pytest
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http.multipartparser import MultiPartParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxyapi.bodies.form_reader import FormReader
from proxyapi.exceptions import BadForm
from tests.support.inputs.ambiguous_forms import AMBIGUOUS
from tests.support.inputs.client_forms import CLIENTS
from tests.support.thoroughness import examples

Contents = list[tuple[str, bytes]]


def load_multipart() -> Any:
    """The distribution `multipart`, by its file: `python-multipart` installs a package of the same name."""
    path = str(distribution("multipart").locate_file("multipart.py"))
    spec = importlib.util.spec_from_file_location("multipart_of_hellkamp", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


multipart = load_multipart()


class InMemory(MemoryFileUploadHandler):
    """Keeps every file in memory."""

    def handle_raw_input(self, *_args: Any, **_options: Any) -> None:
        self.activated = True


class Raw(MultiPartParser):
    """Django's reader, with names and fields as Latin-1 text: bytes stay what they are."""

    def __init__(self, content_type: str, body: bytes) -> None:
        meta = {"CONTENT_TYPE": content_type.lower()[:10] + content_type[10:], "CONTENT_LENGTH": len(body)}
        super().__init__(meta, BytesIO(body), [InMemory()], "latin-1")


def by_ours(content_type: str, body: bytes) -> Contents:
    reader = FormReader([(b"content-type", content_type.encode("latin-1"))])
    reader.feed(body)
    reader.end()
    starts = [end + len("\r\n\r\n") for end in reader.head_ends]
    return [(part.name.decode(), body[at : at + part.size]) for part, at in zip(reader.parts, starts, strict=True)]


def by_django(content_type: str, body: bytes) -> Contents:
    fields, files = Raw(content_type, body).parse()
    texts = [(name, value.encode("latin-1")) for name, values in fields.lists() for value in values]
    both = texts + [(name, upload.read()) for name, uploads in files.lists() for upload in uploads]
    return [(name.encode("latin-1").decode(), content) for name, content in both]


def by_multipart(content_type: str, body: bytes) -> Contents:
    _, options = multipart.parse_options_header(content_type)
    parser = multipart.MultipartParser(BytesIO(body), options["boundary"], content_length=len(body))
    return [(part.name, part.raw) for part in parser.parts()]


def by_email(content_type: str, body: bytes) -> Contents:
    """By the standard library; names and contents are Latin-1 text there, so that bytes stay what they are."""
    message = Parser().parsestr(f"Content-Type: {content_type}\r\n\r\n{body.decode('latin-1')}")
    if not message.is_multipart():
        return []
    parts: list[Any] = message.get_payload()  # type: ignore[assignment]  # typed for all that a message may hold
    names = [part.get_param("name", header="content-disposition").encode("latin-1").decode() for part in parts]
    return list(zip(names, [part.get_payload().encode("latin-1") for part in parts], strict=True))


OTHERS = (by_django, by_multipart, by_email)


def assert_one_meaning(content_type: str, body: bytes) -> bool:
    """Whether the form is accepted; then all others must read what is read here."""
    try:
        read = by_ours(content_type, body)
    except BadForm:
        return False
    for other in OTHERS:
        assert sorted(other(content_type, body)) == sorted(read), other.__name__
    return True


@pytest.mark.parametrize("name", CLIENTS)
def test_clients_forms_have_one_meaning(name: str) -> None:
    sent = CLIENTS[name]

    assert assert_one_meaning(sent.content_type.decode(), sent.body)


@pytest.mark.parametrize("name", ["a boundary inside a line", "base64", "a part behind the last boundary", "name*"])
def test_the_others_do_differ_about_what_is_refused(name: str) -> None:
    """The comparison can fail."""
    sent = AMBIGUOUS[name]
    content_type = sent.content_types[0].decode("latin-1")
    meanings = set()
    for other in OTHERS:
        try:
            meanings.add(str(sorted(other(content_type, sent.body))))
        except (ValueError, AttributeError):
            meanings.add("refused")

    assert len(meanings) > 1


# What a form is made of, and what is cut into it, so that the grammar's every corner is met often.
PIECES = [
    b"--", b"--b", b"--bound", b"\r\n--bound", b"\r\n--bound\r\n", b"\r\n--bound--", b"\r\n--bound--\r\n", b"\r\n",
    b"\n", b"\r", b"\r\n\r\n", b"\n\n", b" ", b"\t", b";", b'"', b"\\", b'\\"', b"=", b":", b"%22", b"%0D%0A", b"%6d",
    b"*", b"'", b"\0", b"\x0b", b"\x1c", b"\x85", b"\xc2\x85", b"\xe2\x80\xa8", b"\xff", b"\xc3\xbc", b"model",
    b"name", b"filename", b"; name=model", b'; name="x"', b"; name*=utf-8''x", b"; filename*=utf-8''x",
    b'; filename="a"', b"; filename=a", b"Content-Disposition: form-data; name=",
    b'\r\nContent-Disposition: form-data; name="y"', b"Content-Type: text/plain",
    b"\r\nContent-Transfer-Encoding: base64", b"\r\nContent-Transfer-Encoding: 8bit", b"\r\nContent-Length: 3",
    b"\r\nContent-Type: multipart/mixed; boundary=x", b"\r\nContent-Type: text/plain; charset=utf-16", b"\r\n x",
    b"\r\nX-A: b", b"\r\nMIME-Version: 1.0", b"\r\nFrom a", b"From a", b"aGVsbG8=", b"gpt-4o", b"boundary=",
]  # fmt: skip
NAMES = [
    b"model", b"file", b"image[]", b"a[b]", b"Model", "größe".encode(), b"a b", b"a;b", b"a'b", b"a=b", b"a\\\"b",
    b"x.y", b"a,b", b"a:b", b"(a)", b"<a>", b"a@b", b"*", b"a*", "\u2028".encode(), "\ufeff".encode(), b"",
]  # fmt: skip
CONTENTS = [
    b"", b"x", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"--", b"-", b"a\r\n--", b"a\r\nb", b"\xff\x00",
    b"x\x0by\x1cz\x85", "ü\u2028".encode(), b" x ", b"--boun", b"\r\n--boun", b"aGk=", b"=3D", b"From x\r\n>From y",
    b"a: b\r\n\r\nc",
]  # fmt: skip
OPTIONS = [
    b"", b'; filename="a.mp3"', b"; filename=a.mp3", b"; filename=a.mp3; filename*=utf-8''a.mp3", b'; filename=""',
    b'; filename="a\\"b"', b'; filename="a;b=c"', b'; filename="a\\\\b"', b'; filename="C:\\x\\y"',
    b'; filename="a%22"', '; filename="ü"'.encode(), b"; filename*=utf-8''a.mp3", b';filename="a"',
    b'; filename="name = x"',
]  # fmt: skip
HEADERS = [
    b"", b"Content-Type: audio/mpeg\r\n", b"Content-Type: text/plain; charset=utf-8\r\n", b"Content-Length: 1\r\n",
    b"Content-Transfer-Encoding: binary\r\n", b"content-type:text/plain;charset=ISO-8859-1\r\n", b"X-Odd:  a:b \r\n",
    b"Content-Type: application/json\r\n", b"Content-Type: message/rfc822\r\n",
    b"Content-Transfer-Encoding: base64\r\n", b"Content-Type: image/png; name=model\r\n", b"Content-ID: <x>\r\n",
    b"MIME-Version: 1.0\r\n",
]  # fmt: skip


@st.composite
def parts(draw: st.DrawFn) -> bytes:
    name, option, more = (draw(st.sampled_from(values)) for values in (NAMES, OPTIONS, HEADERS))
    named = b'name="%b"' % name if draw(st.booleans()) or not name.isalnum() else b"name=" + name
    lines = [b"Content-Disposition: form-data; " + named + option + b"\r\n", more]
    if draw(st.booleans()):
        lines.reverse()
    return b"".join(lines) + b"\r\n" + draw(st.sampled_from(CONTENTS) | st.binary(max_size=20)) + b"\r\n"


BOUNDARIES = st.sampled_from(
    [
        ("bound", "bound"),
        ("bound", '"bound"'),
        ("b", "b"),
        ("-", "-"),
        ("'+_*.", "'+_*."),
        ("=?b ,x:/()", '"=?b ,x:/()"'),
    ]
)


@st.composite
def forms(draw: st.DrawFn) -> tuple[str, bytes]:
    boundary, written = draw(BOUNDARIES)
    mark = b"--" + boundary.encode()
    start, end = (
        draw(st.sampled_from([b"", b"\r\n", b"x\r\n"])),
        draw(st.sampled_from([b"", b"\r\n", b"\r\n\r\n", b"x"])),
    )
    body = b"".join(mark + b"\r\n" + part for part in draw(st.lists(parts(), max_size=4)))
    return f"multipart/form-data; boundary={written}", start + body + mark + b"--" + end


@examples(600)
@given(forms())
def test_generated_forms_have_one_meaning(form: tuple[str, bytes]) -> None:
    assert_one_meaning(*form)


@examples(1500)
@given(
    st.sampled_from(sorted(CLIENTS)),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 12), st.sampled_from(PIECES)), min_size=1, max_size=3),
)
@example("Java, OkHttp", [(70, 0, b"\r\nContent-Length: 3")])
def test_changed_forms_have_one_meaning(name: str, changes: list[tuple[int, int, bytes]]) -> None:
    """At each place some bytes are replaced by others."""
    sent = CLIENTS[name]
    boundary = sent.content_type.partition(b"=")[2].partition(b";")[0].strip(b'"')
    body = sent.body.replace(boundary, b"bound")
    for place, length, piece in changes:
        at = place % (len(body) + 1)
        body = body[:at] + piece + body[at + length :]
    assert_one_meaning("multipart/form-data; boundary=bound", body)


def test_most_of_what_is_generated_reaches_the_comparison() -> None:
    accepted: list[bool] = []

    @settings(max_examples=200, database=None)
    @given(forms())
    def count(form: tuple[str, bytes]) -> None:
        accepted.append(assert_one_meaning(*form))

    count()
    assert sum(accepted) > len(accepted) / 20
