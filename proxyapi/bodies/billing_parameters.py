"""Reads the parameters of a request that decide its price and that upstream does not repeat in its answer.

* A background response costs less if its request allows upstream hours to finish (`completion_window`).
* The answer to a compaction does not state the service tier, and some answers never come. Then the tier in the
  request counts.
* The older speech models are billed by the characters of the request's text, the older image models by the number,
  quality and size of the pictures.
* Only the request says how many pictures a stream will have.

If a request gives a parameter several times, upstream may take any of the values: the one that costs most counts, as it
does in the reservation (`proxyapi.limits.cost_ceiling`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from proxyapi.routes import Route
from usage.call_record import OtherUsage
from usage.custom_prices import service_tier
from usage.money.tool_fees import WINDOW_FACTORS, is_billed_by_characters, is_billed_by_pictures
from usage.prices.price_lookup import IMPLIED_MODELS, TIER_FACTORS

IMAGES, RESPONSES = "/v1/images/", "/v1/responses"
# Routes whose calls can name a service tier (the SDK's types of parameters). Others are billed in the default one.
TIERED_ROUTES = {"/v1/chat/completions", "/v1/responses", "/v1/responses/compact"}
USUAL_SIZE = "1024x1024"  # without `size` (OpenAI's reference); also for sizes that do not exist
_SIZE = re.compile(r"[0-9]{2,5}x[0-9]{2,5}")
MAX_PICTURES = 100  # more than any call may ask for (OpenAI's reference, `n`: 10)
Fields = Mapping[str, Sequence[object]]  # all values that are given under each name


def read_asked_usage(route: Route | None, fields: Fields) -> OtherUsage | None:
    """Returns what a request asks for, apart from tokens, that affects the price of its call; None if nothing does.

    * Chats, responses and compactions: the service tier, and the completion window of a background response. A value
      whose effect on the price is not known is left out.
    * Speech: the number of characters to speak; some models are billed by them.
    * Images: the number of pictures to make, and their quality and size.

    `fields` has the values of the body's members, by name. If a name is given several times, its dearest value counts.
    """
    name = "" if route is None else route.name
    if name in TIERED_ROUTES:
        asked: OtherUsage = {}
        if name == RESPONSES and (window := _completion_window(fields)):
            asked["completion_window"] = window
        tiers = map(service_tier, _texts(fields, "service_tier"))
        tier = max(tiers, key=lambda tier: TIER_FACTORS.get(tier, Decimal(1)), default="")
        if tier in TIER_FACTORS:
            asked["asked_tier"] = tier
        return asked or None
    if name == "/v1/audio/speech":
        if texts := _texts(fields, "input"):
            return {"characters": max(map(len, texts))}
    elif name.startswith(IMAGES):
        return {"pictures": count_pictures(route, fields), "picture_format": _picture_format(fields)}
    return None


def _completion_window(fields: Fields) -> str:
    """Returns the completion window, such as `2h`, by which a request for a response costs less; else an empty text.

    Such a window requires `background: true` and no stream (the SDK's `responses.response_create_params`). A member
    that is given twice asks for none: upstream may read either value.
    """
    background, streams = fields.get("background", ()), fields.get("stream", ())
    options = fields.get("background_options", ())
    if list(background) != [True] or any(streams) or len(options) != 1 or not isinstance(options[0], dict):
        return ""
    window = options[0].get("completion_window")
    return window if isinstance(window, str) and window in WINDOW_FACTORS else ""


def states_whole_bill(asked: OtherUsage | None, route: Route | None, model: str) -> bool:
    """Returns whether a request alone decides the price of its call, whatever upstream answers.

    This is so for speech billed by characters, and for pictures billed by their number: no usage must be estimated
    then. `asked` is what the request asks for apart from tokens (`read_asked_usage`); `model` is the model that it
    names.
    """
    if asked is None:
        return False
    implied = "" if route is None else IMPLIED_MODELS.get(route.name, "")
    # No usage must be estimated for speech billed by characters, and for images billed by the picture.
    by_characters = "characters" in asked and is_billed_by_characters(model)
    return by_characters or ("pictures" in asked and is_billed_by_pictures(model or implied))


def count_pictures(route: Route | None, fields: Fields) -> int:
    """Returns how many pictures a request to the Images API asks for; 1 for requests to other APIs.

    A missing `n`, and one that is invalid or over `MAX_PICTURES`, counts as 1.
    """
    if route is None or not route.name.startswith(IMAGES):
        return 1
    return max(map(_picture_number, fields.get("n", ())), default=1)


def _picture_number(wanted: object) -> int:
    """Converts a value of `n` in a request to the number of pictures; 1 if it is invalid or over `MAX_PICTURES`."""
    try:
        number = float(wanted) if isinstance(wanted, int | float | str) else 1  # some servers take `2.0` or `"2"` for 2
    except (ValueError, OverflowError):
        return 1
    return int(number) if 1 < number <= MAX_PICTURES and number == int(number) else 1


def _picture_format(fields: Fields) -> str:
    """Returns the quality and size of the pictures that a request asks for, as one text such as `hd 1024x1792`.

    Every quality other than `hd` becomes `standard`. If the request has no valid size, the size is `USUAL_SIZE`.
    """
    sizes = [size if _SIZE.fullmatch(size) else USUAL_SIZE for size in _texts(fields, "size")]
    largest = max(sizes, key=_area, default=USUAL_SIZE)
    return f"{'hd' if 'hd' in _texts(fields, 'quality') else 'standard'} {largest}"


def _area(size: str) -> int:
    """Returns the number of pixels of a picture whose size is given as text, such as `1024x1792`."""
    width, _, height = size.partition("x")
    return int(width) * int(height)


def _texts(fields: Fields, name: str) -> list[str]:
    """Returns the strings among the values of the member `name` in a request's body."""
    return [value for value in fields.get(name, ()) if isinstance(value, str)]


def last_value(fields: Fields, name: str) -> object:
    """Returns the last value of the member `name` in a request's body; None if the body has no such member."""
    values = fields.get(name)
    return values[-1] if values else None
