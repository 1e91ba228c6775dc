"""The page of results.

`results` keeps the figures in `bench/results.json`, `report` writes the page, and `goals` has the targets. `names` has
what the measures and the goals call the same things.
"""
