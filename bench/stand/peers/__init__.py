"""Other gateways that `bench.peers` compares with: `litellm`, `ferrogw` and `smg`, from PyPI, in `.venv-peers`.

`peer_process` runs any of them. None keeps a ledger of calls as it is configured here.
"""
