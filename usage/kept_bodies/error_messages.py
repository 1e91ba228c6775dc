"""Groups the messages of upstream's errors: two messages that differ only in numbers, ids and names are one group.

Errors about different parameters of the request are different groups, whether their messages name them or not.

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
# A parameter in a pattern: a quoted name, or a word such as max_tokens. It is the same for all messages of a pattern.
_NAMED = re.compile(r"['\"`“]([a-z][\w.\[\]#-]{0,60})['\"`”]|(?<![\w.\]-])([a-z]\w*[_.\[][\w.\[\]#]*[\w\]])")
_SPACE = re.compile(r"\s+")


def pattern_of(message: str, names: Iterable[str] = ()) -> str:
    """Returns the pattern of an error message: the message with `#` in place of all that differs from call to call.

    The replaced parts are ids, words with a digit, quoted texts other than names of parameters, and the given `names`.
    Only the first `MAX_CHARACTERS` of the message are used.
    """
    text = message[:MAX_CHARACTERS]
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", SIGN, text)
    text = _QUOTED.sub(lambda found: found[0] if _PARAMETER.fullmatch(found[0][1:-1]) else SIGN, text)
    text = _WITH_DIGIT.sub(SIGN, _ID.sub(SIGN, text))
    return _SPACE.sub(" ", _REPEATED.sub(SIGN, text)).strip()


def group_of(message: str, names: Iterable[str] = (), parameter: str = "") -> str:
    """Returns the group of an error message: a hash in hex that is equal if messages differ only in ids and names.

    The hash covers the message's pattern (`pattern_of`) and the refused `parameter`. The parameter is left out if the
    message itself names it first. The result is an empty text if there is neither message nor parameter.
    """
    pattern = pattern_of(message, names).casefold()
    # Most messages name the parameter. Their groups are the same as before parameters were stored.
    parameter = _WITH_DIGIT.sub(SIGN, parameter).casefold()
    named = _NAMED.search(pattern)
    if parameter and (named is None or parameter != (named[1] or named[2])):
        pattern = f"{pattern}\n{parameter}"
    return hashlib.sha256(pattern.encode("utf-8", "replace")).hexdigest()[:GROUP_CHARACTERS] if pattern else ""


def with_group(code: str, group: str) -> str:
    """Joins an error code and the group of its message to `code#group`; without a group, returns the code alone.

    Sums count failed calls by this text. A code that contains a `#` is always followed by another one, since
    `split_group` splits at the last `#`.
    """
    return f"{code}{SIGN}{group}" if group or SIGN in code else code


def split_group(text: str) -> tuple[str, str]:
    """Splits a text `code#group`, as `with_group` makes it; returns the error code, and the group or an empty text."""
    code, sign, group = text.rpartition(SIGN)
    return (code, group) if sign else (text, "")
