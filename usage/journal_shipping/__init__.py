"""Copies calls from the journals into the database tables ("ships" them), each exactly once.

In order: `shipper` finds the journals of living and of dead processes. `shipment` reads the files of one journal, and
deletes those that are delivered. `delivery` writes batches, waits for the end of an outage, and sets aside rows that
the database refuses, in whose place it puts shortened ones (`stub_rows`). `rows` writes a batch in one transaction:
each row gets its digest (`digests`); `response_billing` counts the usage of a response once, under the labels of the
call that created it (`maker_labels`); `background_responses` stores which background responses to poll;
`continued_sessions` finds the session of a call that continues a response; `stored_object_rows` stores which key
created which object.

May import `journal`, `money` and `sums`.
"""
