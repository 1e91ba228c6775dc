"""The JSON body of a request to upstream, decoded and parsed once. Every check of a call reads the same object.

Upstream gets the bytes that the caller sent, never JSON written from the parsed object. The only change is a member
that the gateway may insert into the text (`proxyapi.streams.chat_usage_request`, `proxyapi.limits.output_limits`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from proxyapi.bodies import json_members, large_bodies
from proxyapi.bodies.json_members import JSONFault, Member
from proxyapi.exceptions import BadJSON, UnsupportedMediaType


class JSONBody:
    """The JSON object in a request's body, parsed once for all checks of the call.

    `raw` are the body's bytes, without their Content-Encoding. `text` is the same body as text, until `drop_text` is
    called. `members` has the object's members in order, also those with the same name.
    """

    __slots__ = ("by_name", "members", "raw", "text")

    def __init__(self, raw: bytes, members: Sequence[Member], text: str = "") -> None:
        # Empty for a request without a body.
        self.raw = raw
        # Empty for a body that the gateway itself has written.
        self.text = text
        self.members = members
        self.by_name: dict[str, list[object]] = {}  # the values under each name; several, if it is given twice
        for member in members:
            if member.name in self.by_name:
                self.by_name[member.name].append(member.value)
            else:
                self.by_name[member.name] = [member.value]

    @classmethod
    def parse(cls, raw: bytes) -> JSONBody:
        """Parses the bytes of a request's body, which must be exactly one JSON object.

        Raises:
            ValueError: the body is not a JSON object, or has too many members or digits. The message quotes nothing of
                the body.
            RecursionError: the object is nested too deep.
            BodyTooLarge: the object has more values, escapes or strings than `large_bodies.check_bounds` allows.
        """
        if len(raw) > large_bodies.LARGE_BYTES:
            large_bodies.check_bounds(raw)
        text = json_members.decode(raw)
        return cls(raw, json_members.read_object(text), text)

    @classmethod
    def written(cls, raw: bytes, values: Mapping[str, object]) -> JSONBody:
        """Creates the `JSONBody` of a JSON object that the gateway itself has written.

        `raw` are the bytes of the object, and `values` are its members.
        """
        # Nobody needs the positions of these members in the text.
        return cls(raw, [Member(name, value, 0, 0, 0) for name, value in values.items()])

    def with_raw(self, raw: bytes) -> JSONBody:
        """Returns a copy of this body with the bytes `raw` for upstream; the parsed members stay the same.

        The copy has no `text`.
        """
        return JSONBody(raw, self.members)

    def drop_text(self) -> None:
        """Frees the memory of the body's decoded text."""
        # The text takes as much memory as the bytes, and a call may wait for minutes.
        self.text = ""

    @property
    def size(self) -> int:
        """The size of the request's body in bytes, after its Content-Encoding was undone."""
        return len(self.raw)

    def values(self, name: str) -> Sequence[object]:
        """Returns all values of the JSON object's member `name`; a name may be given several times."""
        return self.by_name.get(name, ())

    @property
    def model(self) -> str:
        """The value of the body's last member `model`; empty if there is no such member, or its value is not text."""
        model = self.values("model")[-1:]
        return model[0] if model and isinstance(model[0], str) else ""

    @property
    def stream(self) -> bool | None:
        """Whether the request asks for a stream (its member `stream` is `true`); None if it has no such member.

        If the member is given several times, the last one counts.
        """
        stream = self.values("stream")[-1:]
        return stream[0] is True if stream else None


NO_BODY = JSONBody(b"", ())


async def read_json_body(raw: bytes, content_type: str) -> JSONBody:
    """Parses a request's body as a JSON object; an empty body counts as `{}`. A large body is parsed in a thread.

    Raises:
        UnsupportedMediaType: there is a Content-Type, and it is not that of JSON.
        BadJSON: the body is not JSON, is not an object, is nested too deep, or has too many members or digits.
        BodyTooLarge: the body has more values, escapes or strings than `large_bodies.check_bounds` allows.
    """
    if not raw:
        return NO_BODY
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in {"", "application/json"} and not media_type.endswith("+json"):
        sent = f"Unsupported media type '{media_type}'"
        raise UnsupportedMediaType(f"{sent}: send application/json or multipart/form-data.")
    try:
        return await large_bodies.run(len(raw), JSONBody.parse, raw)
    except RecursionError as error:
        raise BadJSON("The request body is nested too deep.") from error
    except ValueError as error:
        raise BadJSON(f"The request body is not valid JSON: {fault_of(error)}") from error


def fault_of(error: ValueError) -> str:
    """Returns in words why a JSON text could not be parsed, such as `Expecting value at line 1 column 9`."""
    # Nothing of the parsed text is quoted, since the text may be secret.
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno} column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, JSONFault):
        return str(error)
    return "a number is out of range"  # any other ValueError comes from `int` or `large_bodies.Numbers`
