"""Groups the messages of upstream's errors: two messages that differ only in numbers, ids and names are one group.

The group of a message is a short digest of its pattern, and has no word of the message: upstream may quote the prompt,
and sums are kept longer than calls. The pattern that people see is computed again from the message of a call that is
still stored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

GROUP_CHARACTERS = 12
MAX_CHARACTERS = 400  # of a message that are looked at
SIGN = "#"  # in front of a group in the column `error_code` of sums, and in a pattern for what was taken out

_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`|“[^”\n]*”")
# A quoted name of a parameter, such as 'messages[0].content'. Any other quotation may be what the caller has sent.
_PARAMETER = re.compile(r"[a-z][a-z0-9_.\[\]]{0,40}")
# Ids of upstream's, such as `org-abc` and `req_1`; they need not have a digit.
_ID = re.compile(r"\b(?:org|proj|req|resp|msg|file|asst|thread|run|call|batch|vs|sk|user)[-_][\w-]{6,}")
_WITH_DIGIT = re.compile(r"[\w-]*\d[\w-]*")
_REPEATED = re.compile(r"#(?:[.,:/]?#)+")
_SPACE = re.compile(r"\s+")


def pattern_of(message: str, names: Iterable[str] = ()) -> str:
    """Returns a message with `#` in place of what differs from call to call, at most `MAX_CHARACTERS` long.

    That is: words with a digit in them, such as numbers and ids; quotations, but names of parameters; and the given
    `names`, for example of the call's model.
    """
    text = message[:MAX_CHARACTERS]
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", SIGN, text)
    text = _QUOTED.sub(lambda found: found[0] if _PARAMETER.fullmatch(found[0][1:-1]) else SIGN, text)
    text = _WITH_DIGIT.sub(SIGN, _ID.sub(SIGN, text))
    return _SPACE.sub(" ", _REPEATED.sub(SIGN, text)).strip()


def group_of(message: str, names: Iterable[str] = ()) -> str:
    """Returns a message's group: a digest of its pattern, in `GROUP_CHARACTERS` hex digits; empty without a pattern."""
    pattern = pattern_of(message, names).casefold()
    return hashlib.sha256(pattern.encode("utf-8", "replace")).hexdigest()[:GROUP_CHARACTERS] if pattern else ""


def with_group(code: str, group: str) -> str:
    """Returns the text by which sums count failed calls with an error code and a group of messages: `code#group`.

    A code that has the sign itself gets another one, also without a group. So each text has one meaning.
    """
    return f"{code}{SIGN}{group}" if group or SIGN in code else code


def split_group(text: str) -> tuple[str, str]:
    """Returns the error code and the group of messages in a text that `with_group` has made."""
    code, sign, group = text.rpartition(SIGN)
    return (code, group) if sign else (text, "")
