"""Bodies for tests of what the ledger stores of a body: forms and a picture, and the size limit."""

from __future__ import annotations

import base64
import random

JSON = "application/json"


FORM = "multipart/form-data; boundary=XbX"


LIMIT = 16384


PNG = b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(34_552)  # the same in every run


PNG_BASE64 = base64.b64encode(PNG).decode()


def form(*parts: tuple[str, bytes], end: bytes = b"\r\n--XbX--\r\n") -> bytes:
    heads = ((f"--XbX\r\nContent-Disposition: form-data; {about}\r\n\r\n").encode() + data for about, data in parts)
    return b"\r\n".join(heads) + end
