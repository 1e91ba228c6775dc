"""Benchmarks of the ledger: shipping, pages over millions of rows, and the cost of a call when the ledger has grown."""
