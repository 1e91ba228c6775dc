"""Measures the content of a request for its cost ceiling: upper bounds of the tokens of its texts and files.

Texts are measured without a tokenizer. Bytes per token, with OpenAI's o200k_base: English 4 to 5, hex 1.76, base64
1.45, random ASCII 1.35, rare scripts 1.01, lists of digits 1.00. So each lower-case letter, space and line end, which
make up ordinary language, counts half a token. Any other byte counts one token: no kind of text above has more.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from proxyapi.bodies.json_members import Doubled
from proxyapi.exceptions import BadRequest
from proxyapi.limits.output_limits import by_plain_name
from usage.answers.tool_use import CONTAINER_SIZES

LEAST_BYTES_PER_TOKEN = 2  # of ordinary language
# Tools that run where the caller is, by the beginning of their types. All others run at upstream or at a vendor's.
OWN_TOOLS = ("function", "custom", "namespace", "tool_search", "local_", "apply_patch", "bash", "text_editor")
CONTAINER_MEMBERS = {"code_interpreter": "container", "shell": "environment"}  # of tools that run in containers
_ORDINARY = b"abcdefghijklmnopqrstuvwxyz \n"


@dataclass(frozen=True)
class Form:
    """The parts of a multipart form that decide the cost of its call: texts of fields, and sizes of files (bytes).

    `left_out_bytes` are the bytes of long texts that are not in `fields`.
    """

    fields: Mapping[str, Sequence[str]]
    files: Sequence[int]
    left_out_bytes: int = 0

    @classmethod
    def of(cls, texts: Iterable[tuple[str, str]], files: Sequence[int], left_out_bytes: int = 0) -> Form:
        """Creates a `Form` from text fields, as pairs of name and text, and from the sizes of the files in bytes.

        Names that mean the same field become one name, as in `by_plain_name`: `N` and `n[]` become `n`.
        """
        fields: dict[str, list[str]] = {}
        for name, text in texts:
            fields.setdefault(name, []).append(text)
        return cls(by_plain_name(fields), files, left_out_bytes)

    @property
    def size(self) -> int:
        """The number of bytes in the texts of the fields, without their names and without files."""
        return self.left_out_bytes + sum(len(value.encode()) for values in self.fields.values() for value in values)


def most_tokens(text: bytes) -> int:
    """Computes an upper bound of the tokens in a text (UTF-8 bytes), without a tokenizer."""
    dense = len(text.translate(None, _ORDINARY))
    return dense - (dense - len(text)) // LEAST_BYTES_PER_TOKEN


def most_tokens_of_file(inline: str) -> int:
    """Estimates an upper bound of the text tokens of a file; `inline` is the file as base64 or data URL.

    If `inline` is not valid base64, each of its characters counts as one token.
    """
    try:
        content = base64.b64decode(inline.partition(",")[2] or inline)
    except (binascii.Error, ValueError):  # upstream will refuse it, or knows how to read it
        return len(inline)
    return most_tokens(content)


def dictionaries(values: Iterable[object]) -> Iterator[dict[str, object]]:
    """Yields every JSON object (as a dictionary) that is in the given JSON values, at any depth, once.

    A value may be a part of another one.
    """
    waiting = list(values)
    seen: set[int] = set()  # the objects and lists that were searched; without it, lists in lists would take for ever
    while waiting:
        value = waiting.pop()
        if not isinstance(value, dict | list) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        else:
            waiting.extend(value)


def check_names(objects: Iterable[Mapping[str, object]]) -> None:
    """Checks that no JSON object among `objects` has a name twice.

    Raises:
        BadRequest: an object has a name twice.
    """
    # Upstream may use either of the two members. If only one of them asks for a tool, nobody knows what the call costs.
    if any(isinstance(one, Doubled) for one in objects):
        raise BadRequest("This key has a budget, and a JSON object in the request has a name twice.")


def is_one_of(part: Mapping[str, object], kinds: set[str]) -> bool:
    """Returns whether the member `type` of a tool or a message part is one of `kinds`."""
    kind = part.get("type")
    return isinstance(kind, str) and kind in kinds


def inline_data(part: object) -> str:
    """Returns the base64 or data URL of the image, sound or file in a message part of a request.

    If the part has several, returns the longest. Returns an empty text if the part has none, or only a link.
    """
    if isinstance(part, dict):
        values = [part.get(name) for name in ("image_url", "file_data", "data", "file")]
        nested = [value.get(name) for value in values if isinstance(value, dict) for name in ("url", "file_data")]
        # The data of a link is elsewhere.
        texts = [value for value in (*values, *nested) if isinstance(value, str) and not value.startswith("http")]
        return max(texts, key=len, default="")
    return ""


def tokens_if_text(texts: Iterable[str]) -> int:
    """Returns the highest number of tokens that some files in base64 would have if they were counted as text.

    `texts` are images, sound or other files, which are not billed as text. Subtract the result from an estimate that
    has counted a whole body as text. A text that is given twice, because it is in a part of a part, counts once.
    """
    once = {id(text): text for text in texts}.values()
    return sum(most_tokens(text.encode("utf-8", "surrogatepass")) for text in once)


def offered_tools(values: Iterable[object]) -> Iterator[dict[str, object]]:
    """Yields the tools, as JSON objects, in the lists among `values`, which are the values of members named `tools`."""
    for value in values:
        yield from (tool for tool in value if isinstance(tool, dict)) if isinstance(value, list) else ()


def is_own_tool(tool: Mapping[str, object]) -> bool:
    """Returns whether a tool runs on the caller's own computer, or states no type, as functions of some vendors."""
    kind = tool.get("type")
    return not isinstance(kind, str) or kind.startswith(OWN_TOOLS)


def containers_of(tools: Iterable[object]) -> Iterator[str]:
    """Yields the memory size, such as `4g`, of each container in which a request's hosted tools may run.

    If a container's size is not known, yields the smallest size. Tools that run on the caller's own computer have no
    container.
    """
    for tool in dictionaries(tools):
        kind = tool.get("type")
        place = tool.get(CONTAINER_MEMBERS.get(kind, "")) if isinstance(kind, str) else None
        if place is None or (isinstance(place, dict) and place.get("type") == "local"):  # the caller's own computer
            continue
        # The request states no size for a container that was created before: the default counts.
        size = place.get("memory_limit") if isinstance(place, dict) else None
        yield size if isinstance(size, str) and size in CONTAINER_SIZES else CONTAINER_SIZES[0]
