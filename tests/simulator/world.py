"""What the simulator remembers between requests: stored completions, responses, conversations, files and the like.

Each shelf is bounded, oldest out first, so that a long benchmark doesn't fill the memory.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tests.simulator.content.answers import Json
from tests.simulator.wire.chance import chance

_KEPT = 5_000
Thing = TypeVar("Thing")


def new_id(prefix: str) -> str:
    return f"{prefix}{chance.token(24)}"


class Shelf(OrderedDict[str, Thing], Generic[Thing]):
    def put(self, key: str, thing: Thing) -> None:
        self[key] = thing
        while len(self) > _KEPT:
            self.popitem(last=False)


@dataclass
class StoredCompletion:
    completion: Json
    messages: list[Json]


@dataclass
class StoredResponse:
    """A response of the Responses API that the simulator stores.

    `final` is the finished response; `phases` are the statuses that are still to be shown before that (background
    responses only).
    """

    final: Json
    input_items: list[Json]
    context: list[Json]
    events: list[bytes]
    phases: list[str] = field(default_factory=list)
    cancelled: bool = False


@dataclass
class StoredConversation:
    resource: Json
    items: list[Json]


@dataclass
class StoredObject:
    """An object of a family that the simulator only stores, such as a file, a thread or a voice.

    `parent` is the id of the object that it belongs to.
    """

    kind: str
    resource: Json
    parent: str = ""


@dataclass
class World:
    completions: Shelf[StoredCompletion] = field(default_factory=Shelf)
    responses: Shelf[StoredResponse] = field(default_factory=Shelf)
    conversations: Shelf[StoredConversation] = field(default_factory=Shelf)
    objects: Shelf[StoredObject] = field(default_factory=Shelf)
