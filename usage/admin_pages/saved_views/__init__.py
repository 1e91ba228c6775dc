"""Saved views: a name for the filters of the list of requests or of the page *Usage*, for oneself or for everybody.

`views` reads, saves and deletes them.
"""
