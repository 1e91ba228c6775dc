"""Writes the page of results.

`results` stores the figures in `bench/results.json`, `report` writes the page, and `goals` has the targets. `names` has
the names of figures that both the measures and the goals use.
"""
