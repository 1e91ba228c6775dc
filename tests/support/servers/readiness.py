"""Waits until a server says that nothing is wrong with it."""

from __future__ import annotations

import httpx2

from tests.support.polling import wait_until
from tests.support.servers.gateway import Gateway


def wait_until_ok(gateway: Gateway) -> httpx2.Response:
    """Waits until `/readyz` says `ok`, and returns that answer.

    A server that has just started says `degraded`: its shipper, a process of its own, reports later.
    """
    answers: list[httpx2.Response] = []

    def is_ok() -> bool:
        answers[:] = [gateway.http.get("/readyz")]
        return bool(answers[0].json()["status"] == "ok")

    wait_until(is_ok, complaint=lambda: answers[0].text)
    return answers[0]
