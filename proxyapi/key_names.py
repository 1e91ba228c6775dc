"""The rules for the names of keys: which names are valid, and which two names look the same to a reader.

A name is kept in Unicode's compatibility form (NFKC), in which full-width letters are plain ones. Two names read the
same if only case, the number of spaces, or invisible marks differ; only one key may have such a name.
"""

from __future__ import annotations

import re
import unicodedata

from django.core.exceptions import ValidationError

# The ledger's names for the keys that are settings.
SECURITY_KEY_NAME = "default"
ACCESS_TOKEN_NAME = "access token"  # noqa: S105  (a name)
RESERVED_NAMES = frozenset({SECURITY_KEY_NAME, ACCESS_TOKEN_NAME})
# Invisible characters that Python calls printable: those that Unicode lets be ignored
# (Default_Ignorable_Code_Point), and the empty pattern of Braille.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]+"
)


def normalised(name: str) -> str:
    """Returns the form in which a new name is kept. An unprintable name is returned unchanged, to be refused later."""
    return unicodedata.normalize("NFKC", name) if name.isprintable() else name


def comparable(name: str) -> str:
    """Returns the form in which names that look the same are equal; at most three times as long as an NFKC name."""
    folded = unicodedata.normalize("NFKC", _UNSEEN.sub("", unicodedata.normalize("NFKC", name)).casefold())
    return " ".join(_UNSEEN.sub("", folded).split())


def check_name(name: str) -> None:
    """Raises ValidationError if a name is reserved, unprintable or invisible."""
    if comparable(name) in RESERVED_NAMES:
        raise ValidationError("'%(name)s' is the name of a built-in key.", params={"name": name.strip()})
    if not name.isprintable() or name != name.strip():
        raise ValidationError("A name has printable characters only, and no space at its ends.")
    if name and not comparable(name):
        raise ValidationError("A name has characters that can be seen.")
