"""Reads the headers of a multipart form (the request's Content-Type, and each part's headers) by a strict grammar.

Anything outside this grammar raises `BadForm`, because different programs would read it differently (SP is a space;
names of headers and the word `boundary` in any case, all else exactly as written):

    Content-Type   = "multipart/form-data" 1*( *SP ";" *SP parameter )          exactly one such header
    parameter      = "boundary=" ( plain / DQUOTE bchars DQUOTE ) / "charset=UTF-8"                each at most once
    plain          = 1*70( ALPHA / DIGIT / "'" / "+" / "_" / "-" / "." / "*" )
    bchars         = 1*70 of RFC 2046, 5.1.1, the last one no space

    part-headers   = 1*8( field-name ":" *SP value CRLF )                        no name twice, no folding, 4 KiB
    field-name     = 1*( ALPHA / DIGIT / "-" / "_" )
    value          = *text                                                       no tabs, no control characters
    disposition    = "form-data" 1*( ";" *SP option )                            exactly one Content-Disposition
    option         = "name=" field / "filename=" file / "filename*=UTF-8''" 1*( attr-char / pct-encoded )
    field          = 1*word / DQUOTE 1*( text without a percent-encoded octet ) DQUOTE
    file           = 1*word / DQUOTE *text DQUOTE
    word           = ALPHA / DIGIT / "_" / "." / "-"
    text           = SP / VCHAR / UTF-8 beyond U+009F; a quote in quotes as %22, or as a backslash and a quote

    * `name` once, `filename` at most once, `filename*` only beside `filename`: .NET sends both, and of `filename*`
      alone some readers make a field, others a file.
    * No quoted text has `name=` or `name*=` in it, and a backslash before a quote is in the last option only: so a
      reader that knows no quotes, or no backslashes, finds the same name. A field's name has no other backslash.
    * Content-Transfer-Encoding is binary, 8bit or 7bit; Content-Length is the size of the part's content.
    * A part is no multipart or message itself. A field's charset, if its Content-Type says one, is UTF-8, or with ASCII
      text also ASCII, Latin-1 or Windows-1252 (Apache's HttpClient says Latin-1 of every field).

Sources: RFC 7578 (forms), 2046 (multipart), 9110 (fields), 8187 (`filename*`); the WHATWG's HTML standard and the
sources of common clients for what is sent in practice (`tests/support/inputs/client_forms.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from proxyapi.exceptions import BadForm
from usage.kept_bodies.body_excerpts import PartExcerpt

MAX_HEADERS = 8  # in a part; clients send up to four
MAX_HEAD_BYTES = 4096

_PARAMETER = re.compile(r" *; *([A-Za-z]+)=(?:\"([^\"\\]*)\"|([A-Za-z0-9'+_.*-]+))")
_BOUNDARY = re.compile(r"[A-Za-z0-9'()+_,./:=?* -]{0,69}[A-Za-z0-9'()+_,./:=?*-]")
_FIELD_NAME = re.compile(r"[A-Za-z0-9_-]+")
_VALUE = re.compile(r"[^\x00-\x1f\x7f-\x9f]*")
_OPTION = re.compile(r"; *(name|filename|filename\*)=(?:\"((?:[^\"\\]|\\.)*+)\"|([^ ;\"]++))", re.DOTALL)
_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_EXTENDED = re.compile(r"(?:UTF|utf)-8''(?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-Fa-f]{2})+")
_NAME_IN_TEXT = re.compile(r"name[*0-9 ]*=", re.IGNORECASE)
_PERCENT_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_CHARSET = re.compile(r"charset[*0-9 ]*= *\"?([^\";\s]*)", re.IGNORECASE)
_UTF_8 = {"utf-8", "utf8"}
_OTHER_CHARSETS = {"us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"}  # the same as UTF-8 for ASCII text
_SIZE = re.compile(r"[0-9]{1,15}")
_PLAIN_ENCODINGS = {"binary", "8bit", "7bit"}


def read_boundary(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Reads from the request's Content-Type the boundary that separates the parts of a multipart form.

    The names in `headers` are in lower case.

    Raises:
        BadForm: there is not exactly one Content-Type, it is not `multipart/form-data` with a boundary, or it has a
            malformed or unknown parameter.
    """
    values = [value for name, value in headers if name == b"content-type"]
    if len(values) != 1:
        raise BadForm(f"its request has {len(values)} Content-Type headers")
    kind, semicolon, rest = values[0].decode("latin-1").rstrip(" ").partition(";")
    if kind.rstrip(" ").lower() != "multipart/form-data":
        raise BadForm("its Content-Type is not multipart/form-data")
    text = semicolon + rest
    parameters: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _PARAMETER.match(text, at)
        if match is None or match[1].lower() in parameters:
            raise BadForm("the parameters of its Content-Type are malformed or doubled")
        parameters[match[1].lower()] = match[2] if match[3] is None else match[3]
        at = match.end()
    boundary = parameters.pop("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise BadForm("its Content-Type has no boundary, or an odd one")
    if parameters.keys() - {"charset"} or parameters.get("charset", "utf-8").lower() not in _UTF_8:
        raise BadForm("its Content-Type has an unknown parameter or charset")
    return boundary.encode()


class PartHead(NamedTuple):
    """The parsed headers of one part of a multipart form.

    `part` has the part's name, file name and media type, and no content yet. `size` is the size of the content in
    bytes, as the headers state it; None if they do not state it. `is_ascii` says that the content must be ASCII,
    because the headers state another charset than UTF-8.
    """

    part: PartExcerpt
    size: int | None
    is_ascii: bool


def read_part_head(block: bytes) -> PartHead:
    """Parses the headers of one part of a multipart form.

    `block` has the bytes of these headers, without the empty line after them.

    Raises:
        BadForm: the headers do not follow the grammar.
    """
    headers = _read_headers(block)
    disposition = headers.get("content-disposition")
    if disposition is None:
        raise BadForm("a part has no Content-Disposition")
    name, file_name = _read_disposition(disposition)
    is_file = file_name is not None
    media_type = headers.get("content-type", "")
    charsets = _read_charsets(media_type.lower(), is_file=is_file)
    if headers.get("content-transfer-encoding", "binary").lower() not in _PLAIN_ENCODINGS:
        raise BadForm("a part has a Content-Transfer-Encoding other than binary, 8bit or 7bit")
    size = headers.get("content-length")
    if size is not None and not _SIZE.fullmatch(size):
        raise BadForm("a part has a malformed Content-Length")
    part = PartExcerpt(name=name, file_name=file_name, media_type=media_type.encode())
    return PartHead(part, None if size is None else int(size), is_ascii=not charsets <= _UTF_8)


def _read_headers(block: bytes) -> dict[str, str]:
    """Parses the headers of one part of a form into a dictionary such as `{"content-type": …}`; raises `BadForm`."""
    try:
        lines = block.decode().split("\r\n")
    except UnicodeDecodeError:
        raise BadForm("a part has a header that is not UTF-8") from None
    if len(lines) > MAX_HEADERS:
        raise BadForm(f"a part has more than {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _FIELD_NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadForm("a part has a malformed or folded header")
        if name.lower() in headers:
            raise BadForm("a part has a header twice")
        headers[name.lower()] = value.strip(" ")
    return headers


def _read_disposition(text: str) -> tuple[bytes, bytes | None]:
    """Parses the Content-Disposition header of a form's part; returns the part's name and its file name.

    The file name is None for a text field. Raises `BadForm`.
    """
    if not text.startswith("form-data"):
        raise BadForm("a Content-Disposition is not form-data")
    options: dict[str, str] = {}
    at = len("form-data")
    while at < len(text):
        match = _OPTION.match(text, at)
        if match is None or match[1] in options:
            raise BadForm("a Content-Disposition has a malformed, unknown or doubled option")
        key, quoted, plain = match.groups()
        at = match.end()
        options[key] = _read_option(key, quoted, plain, is_last=at == len(text))
    name = options.get("name", "")
    if not name or name != name.strip():
        raise BadForm("a part has no name, or one with spaces around it")
    if "filename*" in options and "filename" not in options:
        raise BadForm("a part has filename* without filename")
    file_name = options.get("filename")
    return name.encode(), None if file_name is None else file_name.encode()


def _read_option(key: str, quoted: str | None, plain: str | None, *, is_last: bool) -> str:
    """Returns the value of one option of a Content-Disposition header, such as `filename="a.txt"`, after checking it.

    `key` is the option's name. A value in quotes is given as `quoted`, any other as `plain`. `is_last` says that no
    option follows. Raises `BadForm` for a malformed or ambiguous value.
    """
    if key == "filename*":
        if plain is None or not _EXTENDED.fullmatch(plain):
            raise BadForm("a filename* is not UTF-8 in percent-encoding")
        return plain
    if quoted is None:
        if plain is None or not _WORD.fullmatch(plain):
            raise BadForm("a name with odd characters has no quotes")
        return plain
    if _NAME_IN_TEXT.search(quoted) or ('\\"' in quoted and not is_last):
        raise BadForm("a name has quotes or another name in it")
    text = quoted.replace('\\"', '"')
    if key == "name" and (_PERCENT_ENCODED.search(text) or "\\" in text):
        raise BadForm("a name has a percent-encoded character or a backslash in it")
    return text


def _read_charsets(media_type: str, *, is_file: bool) -> set[str]:
    """Returns the charsets that the Content-Type of a form's text field names, such as `utf-8`; always none for a file.

    `media_type` is the Content-Type in lower case. Raises `BadForm` for a text field with an unknown charset, and for a
    text field or file whose type is `multipart/…` or `message/…`.
    """
    if media_type.startswith(("multipart/", "message/")):
        raise BadForm("a part is a multipart or a message itself")
    charsets = set() if is_file else set(_CHARSET.findall(media_type))
    if charsets - _UTF_8 - _OTHER_CHARSETS:
        raise BadForm("a field has an unknown charset")
    return charsets
