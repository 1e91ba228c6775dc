"""Searches for a valid key in a body whose sender is not known yet, so that no parser runs for unknown senders.

Only the places where a key can be are examined: JSON members and form fields called `security_key`. At most
`MAX_PLACES` of them are examined in a body, with one digest each. If a valid key is found, the body may be parsed; the
parsed member or field then identifies the caller (`proxyapi.dispatch.authentication`).
"""

from __future__ import annotations

import re

from django.conf import settings

from proxyapi.keys.keyring import keyring
from proxyapi.models import KEY_LENGTH

MAX_PLACES = 20
# White space in JSON, or the other headers of a part in a form, between the name and the value.
MAX_GAP_BYTES = 1024
MAX_HALF_NAME_BYTES = len('name="security_ke')
MAX_ESCAPE_BYTES = len("\\u0000")

JSON_NAME = re.compile(rb'"security_key"')
JSON_MEMBER = re.compile(rb'"security_key"[ \t\r\n]*:[ \t\r\n]*"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
# The escapes that JSON writers use in a key: some escape the slash, some the characters that are special in HTML.
JSON_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/]))')
# Most clients write the name in quotes, .NET's does not. The content of a file is no key.
FORM_NAME = re.compile(rb'name="?security_key"?')
FORM_FIELD = re.compile(rb'name="?security_key"?(?![^\r\n]*filename)[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)\r\n--')


class KeySearch:
    """A search for a valid key in the body of one request, which arrives in pieces."""

    def __init__(self, *, is_form: bool) -> None:
        self._name, self._field = (FORM_NAME, FORM_FIELD) if is_form else (JSON_NAME, JSON_MEMBER)
        self._is_form = is_form
        self._places = MAX_PLACES
        self._kept = b""
        self._longest = MAX_GAP_BYTES + MAX_ESCAPE_BYTES * max(len(settings.SECURITY_KEY or ""), KEY_LENGTH)

    def finds_key(self, data: bytes, *, is_last: bool) -> bool:
        """Searches the next piece of a request's body for a valid key; returns whether one was found.

        A key may begin in one piece and end in the next. `is_last` says that no piece follows. The search gives up
        after `MAX_PLACES` fields that could have had a key.
        """
        text = self._kept + data
        self._kept = b""
        at = 0
        while self._places:
            name = self._name.search(text, at)
            if name is None:
                # The other half of a name may be in the next piece.
                self._kept = text[max(at, len(text) - MAX_HALF_NAME_BYTES) :]
                break
            at = name.start()
            field = self._field.match(text, at, at + self._longest)
            if field is None and not is_last and len(text) - at < self._longest:
                self._kept = text[at:]
                break
            self._places -= 1
            if field is not None and keyring.find(self._value(field[1])) is not None:
                return True
            at = name.end()
        return False

    def _value(self, raw: bytes) -> str:
        """Decodes the bytes of a JSON member or form field that may be a key; resolves the usual escapes of JSON."""
        text = raw.decode("utf-8", "replace")
        if self._is_form or "\\" not in text:
            return text
        return JSON_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)) if escape[1] else escape[2], text)
