"""Benchmarks of calls and streams; each file measures one or a few figures of the page of results.

`rounds` runs several measures in turns. `calls` measures the cost of a call, `events` that of an event of a stream,
`latency` the added delay, `crowd` very many streams, `footprint` memory, and `workers` a second worker.
"""
