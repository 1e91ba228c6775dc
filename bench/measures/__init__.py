"""Measures of calls and streams; each file has the measure of one figure, or of a few, of the page of results.

`rounds` measures several subjects in turns. `calls`, `events` and `latency` measure a call, an event of a stream, and a
delay; `crowd`, `footprint` and `workers` measure very many streams, memory, and a second worker.
"""
