"""The results: `results` keeps them in `bench/results.json`, `report` writes the page, `goals` are the targets."""
