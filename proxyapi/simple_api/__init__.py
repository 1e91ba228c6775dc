"""Serves the simple API: `/openai`, `/chatgpt`, `/openai2`, transcriptions, embeddings. The key may be in the body.

The views, one small class for each endpoint, are in `chat`, `responses`, `audio` and `health`. `chat_bodies` converts
the bodies of `chat` that do not have OpenAI's form. `proxyapi.call.gateway_fields` reads the fields of a request that
are meant for the gateway.

May import `proxyapi.dispatch` and the folders before it, but not `v1`.
"""
