"""The simple API: `/openai`, `/chatgpt`, `/openai2`, transcriptions, embeddings. The key may be in the body.

One small class for each endpoint: `chat`, `responses`, `audio`. `chat_bodies` makes the two bodies of `chat` that are
not OpenAI's own. The fields that are this gateway's are in `proxyapi.call.gateway_fields`.

Imports `proxyapi.dispatch` and below, not `v1`.
"""
