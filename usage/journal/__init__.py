"""The journal: append-only files to which a worker writes the begin and the end of each call.

`writer` writes it; it refuses a `begin` while the disk is nearly full and keeps an `end` that the disk does not take.
`records` is the form of a record, with its checksums. `segments` finds and reads the files, also those of writers that
have died. `kept_lines` keeps what could not be delivered: dead letters, damaged and outdated records.

Imports nothing of this package: no Django model, no database.
"""
