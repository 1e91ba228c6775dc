"""A form is accepted if it has one meaning: all that common clients send, and nothing that two readers differ about."""

from __future__ import annotations

import pytest

from proxyapi.bodies.form_headers import MAX_HEAD_BYTES, MAX_HEADERS
from proxyapi.bodies.form_reader import MAX_KEPT_BYTES, MAX_PARTS, FormReader, field_path
from proxyapi.exceptions import BadForm
from tests.support.inputs.ambiguous_forms import AMBIGUOUS
from tests.support.inputs.client_forms import CLIENTS, form


def read(body: bytes, *content_types: bytes, piece: int = 0) -> FormReader:
    """The form, read whole or in pieces of this many bytes."""
    reader = FormReader([(b"content-type", value) for value in content_types])
    for at in range(0, len(body), piece or len(body) or 1):
        reader.feed(body[at : at + (piece or len(body))])
    reader.end()
    return reader


@pytest.mark.parametrize("piece", [0, 1, 7])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_clients_form_is_accepted(name: str, piece: int) -> None:
    sent = CLIENTS[name]
    reader = read(sent.body, sent.content_type, piece=piece)

    assert tuple(reader.fields()) == sent.fields
    files = [part for part in reader.parts if part.file_name is not None]
    assert bool(files) is (b"filename" in sent.body)
    assert all(part.size in {3, 4} for part in files)


@pytest.mark.parametrize("piece", [0, 1, 7])
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_form_is_refused(name: str, piece: int) -> None:
    sent = AMBIGUOUS[name]
    with pytest.raises(BadForm) as refused:
        read(sent.body, *sent.content_types, piece=piece)

    assert sent.words in refused.value.words


@pytest.mark.parametrize("name", CLIENTS)
def test_a_form_that_is_cut_anywhere_is_refused(name: str) -> None:
    sent = CLIENTS[name]
    end = sent.body.rindex(b"--") + 2
    for size in range(end):
        with pytest.raises(BadForm, match="before its last boundary"):
            read(sent.body[:size], sent.content_type)


@pytest.mark.parametrize("piece", [0, 1, 7])
@pytest.mark.parametrize("name", CLIENTS)
def test_the_places_of_parts_are_known(name: str, piece: int) -> None:
    sent = CLIENTS[name]
    reader = read(sent.body, sent.content_type, piece=piece)

    assert len(reader.boundaries) == len(reader.parts) + 1
    for number, part in enumerate(reader.parts):
        start, end = reader.boundaries[number : number + 2]
        head, content = sent.body[start:end].split(b"\r\n\r\n", 1)
        assert b"name" in head
        assert sent.body[: reader.head_ends[number]].endswith(head)
        assert content.endswith(b"\r\n" + reader.mark)
        assert len(content) == part.size + 2 + len(reader.mark)


def test_limits_are_reached_and_not_passed() -> None:
    part = b'Content-Disposition: form-data; name="x"\r\n\r\n1'
    read(form(b"b", *[part] * MAX_PARTS).body, b"multipart/form-data; boundary=b")
    more = b"".join(b"X-%d: 1\r\n" % number for number in range(MAX_HEADERS - 1))
    read(form(b"b", more + part).body, b"multipart/form-data; boundary=b")
    long = b"X: " + b"x" * (MAX_HEAD_BYTES - 45)
    read(form(b"b", long + b"\r\n" + part).body, b"multipart/form-data; boundary=b")


def test_a_long_field_is_kept_in_part() -> None:
    part = b'Content-Disposition: form-data; name="prompt"\r\n\r\n' + b"x" * MAX_KEPT_BYTES * 2
    [kept] = read(form(b"b", part).body, b"multipart/form-data; boundary=b", piece=1000).parts

    assert kept.content == b"x" * MAX_KEPT_BYTES
    assert kept.size == MAX_KEPT_BYTES * 2


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("model", ("model",)), ("Model", ("model",)), ("MODEL[]", ("model",)), ("model[0]", ("model",)),
        (" model ", ("model",)), ("m%6fdel", ("model",)), ("%256dodel", ("model",)), ("svg[model]", ("svg", "model")),
        ("svg.model", ("svg", "model")), ("a[b][][c]", ("a", "b", "c")), ("model\0", ("model",)), ("[]", ("",)),
        ("model_x", ("model_x",)), ("größe", ("grösse",)),
    ],
)  # fmt: skip
def test_the_path_of_a_fields_name_is_what_a_server_may_read(name: str, path: tuple[str, ...]) -> None:
    assert field_path(name) == path
