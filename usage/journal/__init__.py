"""The journal: append-only files to which a worker writes the begin and the end of each call.

`writer` writes it. `full_disk` is what happens when the disk is nearly full: a `begin` is refused, an `end` kept in
memory.
`records` is the form of a record, with its checksums. `segments` finds and reads the files, also those of writers that
have died. `undelivered` has what could not be delivered: dead letters, damaged and outdated records.

Imports nothing of this package: no Django model, no database.
"""
