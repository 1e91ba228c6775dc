"""The names of figures in `results.json`, which the measures write and the goals look for."""

CHAT, TRANSCRIPTIONS = "/v1/chat/completions", "/v1/audio/transcriptions"
SIMPLE_CHAT, SIMPLE_TRANSCRIPTIONS = "/openai", "/openai/audio/transcriptions"
SIMPLE_RESPONSES = "/openai2"
EMPTY = "empty view"  # a call of B
SPACED = f"{CHAT}, JSON with spaces"  # with an upstream that writes `", "` and `": "` in its JSON
CROWDED = f"{CHAT}, 64 connections"
BUILT_IN, BUDGETS = "the built-in key", "a key with limits and three budgets"
# Behind another name:
ONE_AT_A_TIME = ", one connection"
IMAGE, FORM = ", 5 MB image", ", 24 MB form"
MANY_STREAMS, FEW_STREAMS = ", 200 streams", ", 10 streams"
# The parts of the ledger whose size on the disk is measured:
CALLS, INDEXES, RESPONSES, BODIES, SUMS = "rows", "indexes of rows", "owners of responses", "bodies", "sums"
