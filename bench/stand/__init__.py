"""The servers and clients of all benchmarks: the gateway, the servers that it is compared with, upstream, and clients.

`stand` starts the gateway on one core. `load`, `streams` and `requests` are its clients. `upstream` answers instead of
OpenAI. `processes` reads CPU time and memory. `yardstick` (called B), `nginx` and the gateways in `peers` are what the
gateway is compared with.
"""
