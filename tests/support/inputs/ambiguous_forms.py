"""Forms that must be refused, because two readers can read them differently or because they are malformed.

For example, a reader that stops at an allowed model, or takes another part for the field, finds another model than
others do. `SECRET` is in the place where only some readers find a model.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxyapi.bodies.form_headers import MAX_HEAD_BYTES, MAX_HEADERS
from proxyapi.bodies.form_reader import MAX_PARTS

TYPE = b"multipart/form-data; boundary=bound"
SECRET = b"gpt-4o-transcribe"


@dataclass(frozen=True)
class Ambiguous:
    """A form that the gateway must refuse, because two readers can read it differently or because it is malformed.

    `words` must be in the error message. `content_types` are the request's Content-Type headers.
    """

    body: bytes
    words: str
    content_types: tuple[bytes, ...] = (TYPE,)


def part(disposition: bytes, value: bytes = SECRET, more: bytes = b"") -> bytes:
    return b"--bound\r\nContent-Disposition: " + disposition + b"\r\n" + more + b"\r\n" + value + b"\r\n"


def named(name: bytes, value: bytes = SECRET, more: bytes = b"") -> bytes:
    return part(b'form-data; name="' + name + b'"', value, more)


ALLOWED = named(b"model", b"whisper-1")
FILE = part(b'form-data; name="file"; filename="a.mp3"', b"RIFF", b"Content-Type: audio/mpeg\r\n")
START = FILE + ALLOWED
END = b"--bound--\r\n"
WHOLE = START + END


def after(rest: bytes, words: str) -> Ambiguous:
    """Makes an ambiguous form: a good file and an allowed model, followed by the part or parts `rest`.

    `words` must be in the message of its refusal.
    """
    return Ambiguous(START + rest + END, words)


def instead(disposition: bytes, words: str, more: bytes = b"") -> Ambiguous:
    """Makes an ambiguous form: a good file, an allowed model, and a part with the Content-Disposition `disposition`.

    `more` are further header lines of the part; `words` must be in the message of the form's refusal.
    """
    return after(part(disposition, more=more), words)


def typed(*content_types: bytes, words: str = "Content-Type") -> Ambiguous:
    """Makes an ambiguous form whose body is good, but whose request has the Content-Type headers `content_types`.

    `words` must be in the message of its refusal.
    """
    return Ambiguous(WHOLE, words, content_types)


TEXT = "Content-Type: text/plain"
AMBIGUOUS: dict[str, Ambiguous] = {
    # The request's Content-Type.
    "two boundaries": typed(TYPE + b"; boundary=other"),
    "two boundaries, in other case": typed(TYPE + b"; Boundary=other"),
    "two Content-Types": typed(TYPE, b"multipart/form-data; boundary=other"),
    "two Content-Types, split in a quote": typed(b'multipart/form-data; boundary="bound', b'x"'),
    "no Content-Type": typed(),
    "no boundary": typed(b"multipart/form-data"),
    "an empty boundary": typed(b"multipart/form-data; boundary="),
    "an empty quoted boundary": typed(b'multipart/form-data; boundary=""'),
    "a boundary that goes on": typed(b'multipart/form-data; boundary="bound"x'),
    "an extended boundary": typed(b"multipart/form-data; boundary*=utf-8''bound"),
    "a continued boundary": typed(b"multipart/form-data; boundary*0=bou; boundary*1=nd"),
    "a boundary with a backslash": typed(b'multipart/form-data; boundary="bo\\und"'),
    "a boundary with a comma and no quotes": typed(b"multipart/form-data; boundary=bound,other"),
    "a boundary with a space at its end": typed(b'multipart/form-data; boundary="bound "'),
    "a boundary with a tab": typed(b"multipart/form-data;\tboundary=bound"),
    "a boundary of 71 letters": typed(b"multipart/form-data; boundary=" + b"b" * 71),
    "a boundary beyond ASCII": typed(b"multipart/form-data; boundary=bo\xfcnd"),
    "an unknown parameter": typed(TYPE + b"; x=y"),
    "a charset of another kind": typed(TYPE + b"; charset=utf-16"),
    "a charset of one byte": typed(TYPE + b"; charset=iso-8859-1"),
    "another multipart": typed(TYPE.replace(b"form-data", b"mixed")),
    "another boundary": Ambiguous(WHOLE, "before its first boundary", (b"multipart/form-data; boundary=other",)),
    # Where a form begins, goes on and ends.
    "text before the first boundary": Ambiguous(b"x\r\n" + WHOLE, "before its first boundary"),
    "a line before the first boundary": Ambiguous(b"\r\n\r\n" + WHOLE, "before its first boundary"),
    "a part before the first boundary": Ambiguous(b'model="x"\r\n\r\n' + WHOLE, "before its first boundary"),
    "text behind the last boundary": Ambiguous(WHOLE + b"x", "behind its last boundary"),
    "a part behind the last boundary": Ambiguous(WHOLE + named(b"model") + END, "behind its last boundary"),
    "three lines behind the last boundary": Ambiguous(WHOLE + b"\r\n\r\n\r\n", "behind its last boundary"),
    "half a line behind the last boundary": Ambiguous(WHOLE + b"\r", "behind its last boundary"),
    "a bare line end behind the last boundary": Ambiguous(WHOLE + b"\n", "behind its last boundary"),
    "no last boundary": Ambiguous(START, "before its last boundary"),
    "a last boundary with one hyphen": Ambiguous(START + b"--bound-", "before its last boundary"),
    "nothing": Ambiguous(b"", "before its last boundary"),
    "JSON": Ambiguous(b'{"model":"gpt-4o-transcribe"}', "before its first boundary"),
    "a space behind a boundary": after(named(b"x").replace(b"--bound", b"--bound "), "in the line of a boundary"),
    "a boundary that goes on in its line": after(b"--boundary\r\n\r\n", "in the line of a boundary"),
    "a bare LF behind a boundary": after(b"--bound\n" + named(b"x")[9:], "in the line of a boundary"),
    "a boundary behind a bare LF": Ambiguous(START[:-2] + b"\n" + named(b"model") + END, "not begin a line"),
    "a boundary behind a bare CR": Ambiguous(START[:-2] + b"\r" + named(b"model") + END, "not begin a line"),
    "a boundary inside a line": after(named(b"x", b"a" + named(b"model")), "not begin a line"),
    "an end inside a line": after(named(b"x", b"a--bound--"), "not begin a line"),
    "a part without an empty line": after(
        b'--bound\r\nContent-Disposition: form-data; name="x"\r\n', "in a part's headers"
    ),
    "a part without content": after(b'--bound\r\nContent-Disposition: form-data; name="x"\r\n\r\n', "not begin a line"),
    "too many parts": after(named(b"x") * (MAX_PARTS - 1), f"more than {MAX_PARTS} parts"),
    # A part's headers.
    "too many headers": after(
        named(b"model", more=b"".join(b"X-%d: 1\r\n" % number for number in range(MAX_HEADERS))), "more than 8 headers"
    ),
    "a long header": after(named(b"model", more=b"X: " + b"x" * MAX_HEAD_BYTES + b"\r\n"), "4096 bytes"),
    "a boundary in a header": after(named(b"model", more=b"X: --bound--\r\n"), "in a part's headers"),
    "a folded header": instead(b'form-data;\r\n name="model"', "malformed or folded"),
    "a folded header, by a tab": instead(b'form-data;\r\n\tname="model"', "malformed or folded"),
    "a line without a colon": after(named(b"model", more=b"garbage\r\n"), "malformed or folded"),
    "a header without a name": after(named(b"model", more=b": x\r\n"), "malformed or folded"),
    "a space before a colon": after(named(b"model").replace(b"tion:", b"tion :"), "malformed or folded"),
    "a name of a header beyond ASCII": after(named(b"model", more=b"X-\xc3\xbc: 1\r\n"), "malformed or folded"),
    "a header that is not UTF-8": after(named(b"model", more=b"X: \xfc\r\n"), "not UTF-8"),
    "a NUL in a header": after(named(b"model", more=b"X: a\0b\r\n"), "malformed or folded"),
    "a tab in a header": instead(b'form-data;\tname="model"', "malformed or folded"),
    "a bare LF between headers": after(named(b"model", more=b"X: 1\nY: 2\r\n"), "malformed or folded"),
    "a bare CR between headers": after(named(b"model", more=b"X: 1\rY: 2\r\n"), "malformed or folded"),
    "headers with bare LF": after(
        b'--bound\r\nContent-Disposition: form-data; name="model"\n\nx\r\n', "in a part's headers"
    ),
    "no headers": after(b"--bound\r\n\r\nx\r\n", "has no headers"),
    "no Content-Disposition": after(b"--bound\r\nContent-Type: text/plain\r\n\r\nx\r\n", "no Content-Disposition"),
    "two Content-Dispositions": after(
        named(b"x", more=b'Content-Disposition: form-data; name="model"\r\n'), "a header twice"
    ),
    "two Content-Dispositions, in other case": after(
        named(b"x", more=b'content-disposition: form-data; name="model"\r\n'), "a header twice"
    ),
    "two Content-Types of a part": after(
        named(b"model", more=b"Content-Type: text/plain\r\nContent-Type: text/html\r\n"), "a header twice"
    ),
    "base64": after(named(b"model", b"Z3B0", b"Content-Transfer-Encoding: base64\r\n"), "Transfer-Encoding"),
    "quoted-printable": after(
        named(b"model", b"=67pt", b"Content-Transfer-Encoding: quoted-printable\r\n"), "Transfer-Encoding"
    ),
    "a Content-Length that is not": after(named(b"x", more=b"Content-Length: 3\r\n"), "Content-Length"),
    "a malformed Content-Length": after(named(b"x", more=b"Content-Length: +3\r\n"), "Content-Length"),
    "a multipart in a part": after(
        named(b"x", more=b"Content-Type: multipart/mixed; boundary=y\r\n"), "a multipart or a message"
    ),
    "a message in a part": after(named(b"x", more=b"Content-Type: message/rfc822\r\n"), "a multipart or a message"),
    "UTF-16": after(named(b"x", b"m\0", b"Content-Type: text/plain; charset=utf-16\r\n"), "unknown charset"),
    "UTF-7": after(named(b"x", b"+AG0-", b'Content-Type: text/plain; charset="UTF-7"\r\n'), "unknown charset"),
    "EBCDIC": after(named(b"x", b"\x94", b"Content-Type: text/plain;charset = cp037\r\n"), "unknown charset"),
    "Latin-1 beyond ASCII": after(named(b"x", b"\xfc", b"Content-Type: text/plain; charset=iso-8859-1\r\n"), "charset"),
    "_charset_": after(named(b"_charset_", b"utf-16"), "charset is not UTF-8"),
    # A part's name.
    "no options": instead(b"form-data", "has no name"),
    "no name": instead(b'form-data; filename="a"', "has no name"),
    "an empty name": instead(b'form-data; name=""', "has no name"),
    "an empty name without quotes": instead(b"form-data; name=", "option"),
    "a name with spaces": instead(b'form-data; name=" model"', "has no name"),
    "name*": instead(b"form-data; name*=utf-8''model", "option"),
    "name* beside name": instead(b"form-data; name=\"x\"; name*=utf-8''model", "option"),
    "name*0": instead(b'form-data; name*0="mo"; name*1="del"', "option"),
    "filename* alone": instead(b"form-data; name=\"x\"; filename*=utf-8''a.mp3", "without filename"),
    "filename* in another charset": instead(b"form-data; name=\"x\"; filename=a; filename*=utf-16''a", "not UTF-8"),
    "filename* in quotes": instead(b'form-data; name="x"; filename=a; filename*="utf-8\'\'a"', "not UTF-8"),
    "two names": instead(b'form-data; name="x"; name="model"', "option"),
    "two names, in other case": instead(b'form-data; name="x"; Name="model"', "option"),
    "two file names": instead(b'form-data; name="x"; filename="a"; filename="b"', "option"),
    "an unknown option": instead(b'form-data; name="x"; size=3', "option"),
    "a name in a file name": instead(b'form-data; name="x"; filename="a; name=model"', "another name in it"),
    "a name behind a backslash": instead(b'form-data; filename="a\\"; name="model"', "another name in it"),
    "a backslash before a name": instead(b'form-data; filename="a\\""; name="model"', "another name in it"),
    "a name in a name": instead(b'form-data; name="x; filename=model"', "another name in it"),
    "a quote that is open": instead(b'form-data; name="model', "option"),
    "text behind a quote": instead(b'form-data; name="mod"el', "option"),
    "a semicolon at the end": instead(b'form-data; name="x";', "option"),
    "a space around =": instead(b'form-data; name = "model"', "option"),
    "single quotes": instead(b"form-data; name='model'", "no quotes"),
    "an odd name without quotes": instead(b"form-data; name=a[]", "no quotes"),
    "a percent-encoded name": instead(b'form-data; name="m%6fdel"', "percent-encoded"),
    "a quote in a name": instead(b'form-data; name="a%22b"', "percent-encoded"),
    "a backslash in a name": instead(b'form-data; name="mo\\del"', "backslash"),
    "a NUL in a name": instead(b'form-data; name="model\0"', "malformed"),
    "a name that is not UTF-8": instead(b'form-data; name="mod\xe8le"', "not UTF-8"),
    "a control character in a name": instead('form-data; name="mod\x85el"'.encode(), "malformed"),
    "another disposition": instead(b'attachment; name="model"', "not form-data"),
    "another disposition's case": instead(b'Form-Data; name="model"', "not form-data"),
    "a longer disposition": instead(b'form-data2; name="model"', "option"),
    # Fields that policy reads.
    "model twice": after(named(b"model"), "given twice"),
    "model twice, in other case": after(named(b"Model"), "given twice"),
    "model twice, as an array": after(named(b"model[]"), "given twice"),
    "stream twice": after(named(b"stream", b"true") * 2, "given twice"),
    "n twice": after(named(b"n", b"1") + named(b"n", b"10"), "given twice"),
    "a model that is a file": instead(b'form-data; name="model[]"; filename="a"', "not a field"),
    "a model that is a file without a name": instead(b'form-data; name="Model[]"; filename=""', "not a field"),
    "a model that is sound": Ambiguous(
        FILE + named(b"model", more=b"Content-Type: application/octet-stream\r\n") + END, "not text"
    ),
    "a model with a NUL": Ambiguous(FILE + named(b"model", b"whisper-1\0") + END, "control characters"),
    "a model with a line end": Ambiguous(FILE + named(b"model", b"whisper-1\r\nx") + END, "control characters"),
    "a model that is not UTF-8": Ambiguous(FILE + named(b"model", b"whisp\xe8r") + END, "not UTF-8"),
    "a model that is too long": Ambiguous(FILE + named(b"model", b"w" * 70_000) + END, "too long"),
}
