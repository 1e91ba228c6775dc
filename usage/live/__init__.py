"""The state of the server at this moment, of all its workers, read without the database.

`worker_files`: each worker writes its state and counters once a second; the counts of dead workers are kept. `status`
puts them together for the dashboard; `metrics` writes the page that Prometheus reads.

Imports `usage.ledger` and `usage.metric_counters`.
"""
