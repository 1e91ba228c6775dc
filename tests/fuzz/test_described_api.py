"""Requests made from `/openapi.json`: none is a fault of ours, and the description says what the server answers."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import given
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.campaign import Answer, Books, books, examples
from tests.simulator.server import Simulator
from tests.support.servers.gateway import ACCESS_TOKEN, PATIENCE, SECURITY_KEY, Gateway

OUR_SECRETS = ("security_key", "access_token")
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MADE_CALLS = {"/health", "/health2"}  # pages that make a call themselves, with a row
EXAMPLES = 4  # of each operation
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


@pytest.fixture
def operations(gateway: Gateway, simulator: Simulator) -> list[Any]:
    """Every operation that the running server describes; secrets are ours to give, not made up."""
    config = SchemathesisConfig.from_dict({"generation": {"with-security-parameters": False}})
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json", config=config)
    return [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]


@pytest.mark.parametrize("mode", MODES, ids=["valid", "invalid"])
def test_described_operations_answer_what_is_described(
    gateway: Gateway, operations: list[Any], mode: GenerationMode
) -> None:
    assert len(operations) > 40
    with books(gateway) as kept:
        for operation in operations:
            try:
                send_requests(operation, mode, kept)
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE  # an operation without parameters takes nothing invalid
                assert not operation.query
                assert not operation.body


def send_requests(operation: Any, mode: GenerationMode, kept: Books) -> None:
    """Sends requests to one operation, each twice: as a key holder and as a stranger.

    To make a request up takes longer than to send it.
    """
    is_page = "server" in operation.definition.raw["tags"]
    is_call = not is_page or operation.path in MADE_CALLS
    secret = ACCESS_TOKEN if is_page else SECURITY_KEY

    @examples(EXAMPLES, shrinks=False)
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Case[Any]) -> None:
        without_secrets(case)
        for headers in ({"Authorization": f"Bearer {secret}"}, {}):
            response = case.call(headers=headers, timeout=PATIENCE)
            seen = {name.lower(): values[0] for name, values in response.headers.items()}
            answer = Answer(response.status_code, seen, response.content)
            kept.note(answer, has_key=bool(headers), is_call=is_call)
            case.validate_response(response, checks=CHECKS)

    send()


def without_secrets(case: Case[Any]) -> None:
    """A made-up key in a body or a query would win over the right one in the header."""
    for place in (case.body, case.query):
        if isinstance(place, dict):
            for name in OUR_SECRETS:
                place.pop(name, None)
