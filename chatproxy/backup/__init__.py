"""Backups: one file with the ledger, the keys and what waits in the journal, and the way back.

From the ground up: `archive` is the form of the file; `data_files` are the files of `DATA_DIR` that are in it;
`make_backup` writes one while the server runs; `restore_backup` checks one, and brings it into an empty place.

Imports `postgres`, `start`, `doctor`, the settings and the models.
"""
