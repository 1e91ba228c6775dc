"""Serves the simple API: `/openai`, `/chatgpt`, `/openai2`, transcriptions, embeddings. The key may be in the body.

There is one small class for each endpoint: `chat`, `responses`, `audio`, `health`. `chat_bodies` makes the bodies of
`chat` that are not OpenAI's own. The fields of a request that are this gateway's are in `proxyapi.call.gateway_fields`.

Imports `proxyapi.dispatch` and below, not `v1`.
"""
