"""The state of the server at this moment, of all its workers and its shipper, read without the database.

`worker_files`: each process writes its state and counters once a second; the counts of dead ones are kept.
`shipping_state` says how far the journals have been shipped, `process_facts` what each process takes. `status` puts all
together for the dashboard; `metrics` writes the page that Prometheus reads.

Imports `usage.ledger` and `usage.metric_counters`.
"""
