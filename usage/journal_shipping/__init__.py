"""Brings calls from the journal into the tables, each exactly once.

In order: `shipper` finds the journals of living and of dead writers; `shipment` reads the segments of one of them, and
deletes those that are delivered; `delivery` writes batches, waits for the end of an outage, and sets aside what the
database refuses, in whose place it puts `stubs`; `rows` writes a batch in one transaction: each row gets its digest
(`digests`), `background_cost` counts the usage of a response once, under the labels of the call that created it
(`maker_labels`), `pending_responses` stores which background responses are to be polled, `sessions` finds the session
of a call that continues a response, and `stored_object_rows` stores which key created which object.

Imports `journal`, `money` and `sums`.
"""
