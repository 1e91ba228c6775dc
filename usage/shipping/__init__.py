"""From the journal into the tables, exactly once.

In order: `shipper` reads segments and deletes those that are delivered; `delivery` sends batches, waits out outages,
and sets aside what the database refuses; `rows` writes a batch in one transaction, and with it `response_cost` (a
response's usage counts once), `pending_responses` (background responses that wait to be asked for) and
`stored_objects` (which key made what).

Imports `usage.journal.writer`, `money` and `sums`.
"""
