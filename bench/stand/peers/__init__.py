"""Other gateways for comparison (`bench.peers`): `litellm`, `ferrogw` and `smg`, from PyPI, in `.venv-peers`.

`peer_process` runs any of them. As they are configured here, none keeps a ledger of calls.
"""
