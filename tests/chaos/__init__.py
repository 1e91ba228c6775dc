"""Everything goes wrong while calls go on, and then three books are compared: the callers', upstream's and the ledger.

`python -m tests.chaos` (`make chaos`) takes some minutes, `--short` less than one. Loopback only; what it ends are
processes that it started, by their ids.
"""
