"""Finds a first call for a new key: an endpoint and a model that the key and its team may use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.utils import timezone

from proxyapi.keys.globs import is_allowed
from proxyapi.models import AccessKey
from proxyapi.pages.handover.model_list import custom_prices
from proxyapi.team_models import SpenderColumns
from usage.custom_prices import CustomPrice
from usage.prices.price_lookup import find_rates, listed_models

HELLO = "Hello"
NO_MODEL = "MODEL-NAME"  # stands where no model is known that the key may use
# The name of one model, not a pattern; it needs no quotes in a shell.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]*")
EMBEDDING = re.compile(r"embedding")
ONLY_RESPONSES = re.compile(r"-pro$|codex|deep-research")  # OpenAI has these models in the Responses API only
# Models of other endpoints (sound, pictures, old completions), and those that need more than a text.
NO_TEXT_MODEL = re.compile(
    r"audio|realtime|live|translat|transcri|whisper|tts|image|dall-e|sora|moderation|instruct|davinci|babbage|curie|^ada"
    r"|deep-research|computer-use|:"
)


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of the gateway to which a new key's first call can go.

    * `route`: the endpoint's path.
    * `family`: the route's family; empty in the simple API.
    * `method`: the method of the official SDKs for this endpoint, such as `responses.create`; empty if there is none.
    * `result`: the expression that takes the text from that method's result; empty if there is no method.
    """

    route: str
    family: str = ""
    method: str = ""
    result: str = ""

    def body(self, model: str) -> dict[str, object]:
        """Returns the JSON body of a first call to this endpoint, as a dictionary."""
        if self.route in ("/v1/chat/completions", "/openai"):
            return {"model": model, "messages": [{"role": "user", "content": HELLO}]}
        return {"model": model, "input": HELLO}


CHAT = Endpoint(
    "/v1/chat/completions", "chat/completions", "chat.completions.create", "choices[0].message.content"
)  # fmt: skip
RESPONSES = Endpoint("/v1/responses", "responses", "responses.create", "output_text")
EMBEDDINGS = Endpoint("/v1/embeddings", "embeddings", "embeddings.create", "data[0].embedding")
SIMPLE_CHAT, SIMPLE_RESPONSES = Endpoint("/openai"), Endpoint("/openai2")


@dataclass(frozen=True)
class FirstCall:
    """A first call that a new key can make: an endpoint, and the name of a model (`NO_MODEL` if none is known).

    `may_use_responses` says whether the key may call the same model at `/v1/responses`, too, as Codex does.
    """

    endpoint: Endpoint
    model: str
    may_use_responses: bool

    @property
    def body(self) -> dict[str, object]:
        """The JSON body of the first call, as a dictionary."""
        return self.endpoint.body(self.model)


def find_first_call(key: AccessKey) -> FirstCall:
    """Chooses the example call that is shown with a new key: a model and an endpoint that the key and its team may use.

    The model is `NO_MODEL` if none is known. If the key may use no endpoint that accepts the model, the usual endpoint
    for this model is returned, though the key may not use it.
    """
    model = _find_model(key)
    fitting = _fitting(model)
    endpoint = next((one for one in fitting if _may_call(key, one)), fitting[0])
    return FirstCall(endpoint, model, RESPONSES in fitting and _may_call(key, RESPONSES))


def spenders_of(key: AccessKey) -> tuple[SpenderColumns, ...]:
    """Returns the key and its team, if it has one; the key may do only what both of them allow."""
    return (key,) if key.team is None else (key, key.team)


def _fitting(model: str) -> tuple[Endpoint, ...]:
    """Returns the endpoints that accept this model, judged by the model's name; the usual endpoint comes first."""
    if EMBEDDING.search(model):
        return (EMBEDDINGS,)
    if ONLY_RESPONSES.search(model):
        return RESPONSES, SIMPLE_RESPONSES
    return CHAT, RESPONSES, SIMPLE_CHAT, SIMPLE_RESPONSES


def _may_call(key: AccessKey, endpoint: Endpoint) -> bool:
    """Returns whether the endpoint is open on this gateway, and the key and its team may use it."""
    is_open = not endpoint.family or endpoint.family in settings.V1_ROUTES
    return is_open and all(is_allowed(endpoint.route, one.allowed_routes) for one in spenders_of(key))


def _find_model(key: AccessKey) -> str:
    """Returns the name of a model that the key and its team may use; `NO_MODEL` if none is known.

    If the key or the team has a budget, the model must have a price.
    """
    spenders = spenders_of(key)
    prices = custom_prices() if any(budget is not None for one in spenders for budget in one.budgets.values()) else None
    for model in _candidates(spenders):
        may_use = all(is_allowed(model, one.allowed_models) for one in spenders)
        if may_use and (prices is None or _has_price(model, prices)):
            return model
    return NO_MODEL


def _candidates(spenders: tuple[SpenderColumns, ...]) -> Iterator[str]:
    """Yields names of models that may suit a first call, the best first.

    The order is: the default model, models that the key or its team allows by name, models in the price list.
    """
    yield settings.DEFAULT_MODEL
    named = [name for one in spenders for name in one.allowed_models if NAME.fullmatch(name)]
    # A fine-tuned model has colons in its name, and answers as its base does.
    yield from (name for name in named if not NO_TEXT_MODEL.search(name.replace(":", "")))
    listed = (name for name in listed_models() if NAME.fullmatch(name) and not NO_TEXT_MODEL.search(name))
    yield from sorted(listed, key=lambda name: (bool(ONLY_RESPONSES.search(name)), len(name), name))


def _has_price(model: str, prices: list[CustomPrice]) -> bool:
    return find_rates(model.lower(), "default", timezone.now(), prices) is not None
