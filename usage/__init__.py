"""The records of calls: their way from the journal to the database tables and to the dashboard.

::

    proxyapi.call.journal_rows
      │ begin, end                       the rest of the project knows only `usage.ledger`
      ▼
    journal.writer ──────────────────▶   DATA_DIR/journal/<writer>.N.journal: one write a record, CRC32s, no await
      │                                  disk nearly full: `begin` refuses, `end` is kept in memory and tried again
      ▼
      │                                  the worker's part ends here; what follows is the shipper, another process
    journal_shipping.shipper             finds the journals of all writers of the host (journal.segments)
      │
    journal_shipping.shipment            reads the segments of one, and deletes those that are delivered
      │
    journal_shipping.delivery            batches; waits out an outage; sets aside what the database refuses
      │   money.row_pricing              dollars of each row: custom prices, else the list (prices.price_lookup)
      ▼
    journal_shipping.rows                one transaction a batch, exactly once:
      ├──▶ usage_request, _requestbody   the rows, each with its digest, and the redacted bodies
      ├──▶ sums.totals_rollup                   usage_usagehour, _usagetotal, _usagebreakdown, _usageday,
      │                                  _usagepeak, _errortotal, _summedname, _labeltotal,
      │                                  and by its triggers _labelgrandtotal
      ├──▶ money.spent_and_reserved      the call's cost is taken off the lease from which it was reserved
      ├──▶ journal_shipping.response_billing  a response's usage counts once, however often the response is read
      └──▶ journal_shipping.stored_object_rows  which key created an object
              │
              ▼
    sums.totals_reader ──▶ page_data.dashboard  ──▶ admin_pages.dashboard
                       ──▶ sums.report_reader   ──▶ GET /usage
    usage_request ──▶ page_data.search, call_page, errors, exports ──▶ admin_pages.requests, errors, export

    live.worker_files                    each worker and the shipper write their state and counters once a second
      └──▶ live.shipping_state, status, metrics    `/readyz`, the dashboard's live numbers, `/metrics`: without the
                                         database

Each call is counted exactly once: the shipper reads a segment again after a crash ("at least once"), but each row has a
unique id. The insert returns only the rows that it really inserted, and sums are added from those, in the same
transaction.

Before a record is written to the journal, `kept_bodies` redacts and shortens the bodies of the call, and `answers`
reads upstream's answer: its text, tokens, errors, new objects. `upkeep` maintains the tables: it makes partitions,
deletes old data, verifies the tables and rebuilds sums.

At this level: the tables (`models`), `ledger`, the counters of this process (`metric_counters`), request ids and the
time in them (`ids`), IP addresses in one form (`ip_addresses`), custom prices (`custom_prices`), and a function that
makes strangers' text harmless for pages (`untrusted_text`).

Imports run down only: the modules of this level (but `ledger` and `admin`) ← database ← kept_bodies ← answers ← journal
← prices ← money ← sums ← journal_shipping ← upkeep ← `ledger` ← live ← page_data ← admin_pages ← `admin`. This package
imports neither `proxyapi` nor `chatproxy`: it knows nothing of HTTP calls.
"""
