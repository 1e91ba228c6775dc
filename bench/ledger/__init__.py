"""Measures of the ledger: shipping, pages over millions of rows, and what a call costs when it has grown."""
