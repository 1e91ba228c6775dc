"""The page of results.

`results` keeps the figures in `bench/results.json`, `report` writes the page, and `goals` has the targets.
"""
