"""Prints, as JSON, what the official SDK of OpenAI says of its client: the base URL, and the headers of each request.

`client` runs this as a program of its own (`python -m proxyapi.upstream.sdk BASE_URL`), since the SDK and its imports
take 17 MB, and a process that calls upstream needs nothing else of it. `client` keeps the answer for later processes,
because it depends on nothing but the address, this file, the system and the versions of the packages. Each setting that
the SDK would read from the environment by itself is passed explicitly.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import httpx2
from openai import AsyncOpenAI


async def main(base_url: str) -> None:
    """Prints the OpenAI SDK's base URL and headers for upstream at `base_url`, without the headers of an account."""
    # The variable could add a header to every call, and no argument switches it off.
    os.environ.pop("OPENAI_CUSTOM_HEADERS", None)
    # In a coroutine, because a header names the library that runs the event loop.
    async with AsyncOpenAI(
        api_key="unused",
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        base_url=base_url,
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(refuse)),
    ) as client:
        headers = {name: value for name, value in client.default_headers.items() if isinstance(value, str) and value}
        sys.stdout.write(json.dumps({"base_url": str(client.base_url), "headers": headers}))


def refuse(request: httpx2.Request) -> httpx2.Response:
    """Raises RuntimeError for every request; replaces the transport of the SDK's client."""
    # Another transport would read proxies and certificates. Requests go through `proxyapi.upstream.transport` only.
    raise RuntimeError("calls go through proxyapi.upstream.transport")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
