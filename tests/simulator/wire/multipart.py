"""Reading `multipart/form-data` (RFC 7578) whole: fields and files, in order, nothing decoded that is a file."""

import re
from dataclasses import dataclass, field
from email.message import Message


@dataclass(frozen=True)
class UploadedFile:
    name: str
    filename: str
    content_type: str
    data: bytes


@dataclass
class Form:
    fields: dict[str, list[str]] = field(default_factory=dict)
    files: list[UploadedFile] = field(default_factory=list)

    def first(self, name: str, default: str = "") -> str:
        return self.fields.get(name, [default])[0]


_PARAMETER = re.compile(r';\s*([\w*]+)=(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')


def _parameters(value: str) -> dict[str, str]:
    return {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(value)}


def parse_form(content_type: str, body: bytes) -> Form:
    """Parses the body of a multipart form; returns its fields and files.

    Raises:
        ValueError: the body is not the multipart form that its content type announces.
    """
    if not content_type.lower().startswith("multipart/form-data"):
        raise ValueError("not multipart/form-data")
    boundary = _parameters(content_type).get("boundary")
    if not boundary:
        raise ValueError("no boundary")
    delimiter = b"--" + boundary.encode()
    body = body.removeprefix(b"\r\n")  # the end of an empty preamble (RFC 2046, 5.1.1)
    if not body.startswith(delimiter) or delimiter + b"--" not in body:
        raise ValueError("boundary not found")
    form = Form()
    for part in (b"\r\n" + body).split(b"\r\n" + delimiter)[1:]:
        if part.startswith(b"--"):
            break
        head, separator, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if not separator:
            raise ValueError("a part without headers")
        _add_part(form, head, data)
    return form


def _add_part(form: Form, head: bytes, data: bytes) -> None:
    headers = Message()
    for line in head.split(b"\r\n"):
        name, _, value = line.decode("utf-8", "replace").partition(":")
        headers[name.strip()] = value.strip()
    disposition = _parameters(str(headers.get("content-disposition", "")))
    if "name" not in disposition:
        raise ValueError("a part without a name")
    if "filename" in disposition:
        kind = str(headers.get("content-type", "application/octet-stream"))
        form.files.append(UploadedFile(disposition["name"], disposition["filename"], kind, data))
    else:
        form.fields.setdefault(disposition["name"], []).append(data.decode("utf-8", "replace"))
