"""The state of the server at this moment, of all its workers and its shipper, read without the database.

In `worker_files`, each process writes its state and counters to a file once a second; the counts of dead processes are
kept. `shipping_state` says how far the journals have been shipped, and `process_facts` how much memory, CPU time and
open files each process uses. `status` puts all this together for the dashboard; `metrics` writes the page that
Prometheus reads.

May import `usage.ledger` and `usage.metric_counters`.
"""
