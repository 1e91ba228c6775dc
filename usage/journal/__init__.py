"""The journal: append-only files to which a worker writes the begin and the end of each call.

`writer` writes the journal. `full_disk` handles a nearly full disk: a `begin` is refused, an `end` kept in memory.
`records` has the form of a record, with its checksums. `lock_files` shows whether a writer lives. `segments` finds and
reads the files, including those of writers that have died. `undelivered` has the files of records that could not be
delivered: dead letters, damaged and pruned records, and records of newer versions.

May import nothing of this package: no Django model, no database.
"""
