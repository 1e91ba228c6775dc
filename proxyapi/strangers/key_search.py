"""Owns the search for a valid key in a body whose sender is not known yet, so that no parser runs for a stranger.

A key is looked for only where one can be: the JSON member `security_key`, or the form field of that name. A body gets
`MAX_PLACES` such places, and one digest each. A key that is found only says that the sender knows one, so that the
body is worth parsing; whose call it is says the member or field itself, once it has been parsed
(`proxyapi.dispatch.authentication`).
"""

from __future__ import annotations

import re

from django.conf import settings

from proxyapi.keys.keyring import keyring
from proxyapi.models import KEY_LENGTH

MAX_PLACES = 20
# White space in JSON, or the other headers of a part in a form, between the name and the value.
MAX_GAP_BYTES = 1024
LONGEST_HALF_NAME = len('name="security_ke')
LONGEST_ESCAPE = len("\\u0000")

JSON_NAME = re.compile(rb'"security_key"')
JSON_MEMBER = re.compile(rb'"security_key"[ \t\r\n]*:[ \t\r\n]*"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
# As JSON writers spell characters of a key: some escape the slash, some what is special in HTML.
JSON_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/]))')
# Most clients write the name in quotes, .NET's writes none. A file is no key.
FORM_NAME = re.compile(rb'name="?security_key"?')
FORM_FIELD = re.compile(rb'name="?security_key"?(?![^\r\n]*filename)[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)\r\n--')


class KeySearch:
    """Searches one body piece by piece; only the end of the last piece is kept."""

    def __init__(self, *, is_form: bool) -> None:
        self._name, self._field = (FORM_NAME, FORM_FIELD) if is_form else (JSON_NAME, JSON_MEMBER)
        self._is_form = is_form
        self._places = MAX_PLACES
        self._kept = b""
        self._longest = MAX_GAP_BYTES + LONGEST_ESCAPE * max(len(settings.SECURITY_KEY or ""), KEY_LENGTH)

    def finds_key(self, data: bytes, *, is_last: bool) -> bool:
        """Whether the body shows a valid key, now that `data` has come; `is_last` if nothing comes after it."""
        text = self._kept + data
        self._kept = b""
        at = 0
        while self._places:
            name = self._name.search(text, at)
            if name is None:
                self._kept = text[max(at, len(text) - LONGEST_HALF_NAME) :]  # its other half may come next
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
        text = raw.decode("utf-8", "replace")
        if self._is_form or "\\" not in text:
            return text
        return JSON_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)) if escape[1] else escape[2], text)
