"""Benchmarks of the server's costs: calls, streams, memory and pages. `python -m bench` runs most of them.

The commands in this folder: `bench` (all benchmarks), `bench.short` (a short run for CI), `bench.turns` (a comparison
with another checkout of this project), `bench.peers` (a comparison with other gateways), `bench.profile`. The
subfolders: `measures` (calls and streams), `ledger` (shipping, growth, pages), `hostility` (good calls during an
attack), `stand` (the servers, clients and processes that all benchmarks use), `reporting` (the page of results).
"""
