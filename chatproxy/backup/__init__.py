"""Makes and restores backups: one file with the ledger, the keys, and the records that wait in the journal.

From the ground up: `archive` is the form of the file; `data_files` are the files of `DATA_DIR` in a backup;
`make_backup` writes a backup while the server runs; `restore_backup` checks a backup and restores it into an empty
place.

May import `postgres`, `start`, `doctor`, the settings and the models.
"""
