"""Program that prints, as JSON, the base URL and the headers that OpenAI's official SDK uses for its requests.

`client` runs this program (`python -m proxyapi.upstream.sdk BASE_URL`), because the SDK and its imports take 17 MB, and
a worker needs nothing else of the SDK. `client` stores the output for later processes: it depends only on the address,
this file, the system and the versions of the packages. Settings that the SDK would read from the environment are passed
to it explicitly.
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
    """Raises RuntimeError for every request; used as the transport of the SDK's client, so that it sends nothing."""
    # Another transport would read proxies and certificates. Requests go through `proxyapi.upstream.transport` only.
    raise RuntimeError("calls go through proxyapi.upstream.transport")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
