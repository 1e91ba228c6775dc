"""One call as a handler sees it: the request, where it was routed, its fault, and the body read for its kind."""

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qs

from tests.simulator.content import errors
from tests.simulator.content.answers import Json
from tests.simulator.wire.faults import MODEL_PREFIX, Fault
from tests.simulator.wire.multipart import Form
from tests.simulator.wire.recording import ReceivedRequest
from tests.simulator.world import World


@dataclass
class Call:
    request: ReceivedRequest
    world: World
    fault: Fault
    parameters: dict[str, str]

    @cached_property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.request.query, keep_blank_values=True)

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() == "true"

    def json(self, usual_model: str = "gpt-4o-mini") -> Json:
        """Returns the JSON object in the request's body, with `usual_model` in place of a model name `fault:…`."""
        kind = self.request.header("content-type") or ""
        if not kind.lower().startswith("application/json"):
            raise errors.unsupported_content_type(kind, "application/json")
        try:
            body = self.request.json
        except ValueError:
            raise errors.bad_json() from None
        if not isinstance(body, dict):
            raise errors.bad_json()
        if str(body.get("model", "")).startswith(MODEL_PREFIX):
            return {**body, "model": usual_model}
        return dict(body)

    def form(self, usual_model: str) -> Form:
        """Returns the multipart form in the request's body, with `usual_model` in place of a model name `fault:…`."""
        kind = self.request.header("content-type") or ""
        if not kind.lower().startswith("multipart/form-data"):
            raise errors.unsupported_content_type(kind, "multipart/form-data")
        try:
            fields = {name: list(values) for name, values in self.request.form.items()}
            form = Form(fields, self.request.files)
        except ValueError:
            errors.refuse("Could not parse multipart form")
        if form.first("model").startswith(MODEL_PREFIX):
            form.fields["model"] = [usual_model]
        return form
