"""The rules for the names of keys: which names are valid, and which two names look the same to a reader.

A name is stored in Unicode's compatibility form (NFKC), which replaces full-width letters by plain ones. Two names look
the same if they differ only in case, the number of spaces, or invisible marks. Two keys may not have names that look
the same.
"""

from __future__ import annotations

import re
import unicodedata

from django.core.exceptions import ValidationError

# The ledger's names for the keys that are settings.
SECURITY_KEY_NAME = "default"
ACCESS_TOKEN_NAME = "access token"  # noqa: S105  (a name)
RESERVED_NAMES = frozenset({SECURITY_KEY_NAME, ACCESS_TOKEN_NAME})
# Invisible characters that `str.isprintable` accepts: those that programs may leave out when they show a text
# (Unicode's Default_Ignorable_Code_Point), and the empty pattern of Braille.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]+"
)
# Replaced in the labels of calls, and in no tag of a key or team: the sums by label have names of their own with them.
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def normalised(name: str) -> str:
    """Converts the name of a new access key to the form that is stored (NFKC): full-width letters become plain ones.

    A name with unprintable characters is returned unchanged; `check_name` refuses it.
    """
    return unicodedata.normalize("NFKC", name) if name.isprintable() else name


def comparable(name: str) -> str:
    """Converts a key's name so that names that look the same become equal: `My Key` becomes `my key`, for example."""
    folded = unicodedata.normalize("NFKC", _UNSEEN.sub("", unicodedata.normalize("NFKC", name)).casefold())
    # at most three times as long as the name in NFKC
    return " ".join(_UNSEEN.sub("", folded).split())


def check_name(name: str) -> None:
    """Checks that the name of a new access key is valid.

    Raises:
        ValidationError: the name looks like that of a built-in key, has unprintable characters or spaces at its ends,
            or consists of invisible characters only.
    """
    if comparable(name) in RESERVED_NAMES:
        raise ValidationError("'%(name)s' is the name of a built-in key.", params={"name": name.strip()})
    if not name.isprintable() or name != name.strip():
        raise ValidationError("A name has printable characters only, and no space at its ends.")
    if name and not comparable(name):
        raise ValidationError("A name has characters that can be seen.")
