"""What the server costs: measures of calls, streams, memory and pages. `python -m bench` runs most of them.

Commands at this level: `bench` (everything), `bench.short` (CI), `bench.turns` (against another checkout),
`bench.peers` (against others' gateways), `bench.profile`. The folders: `measures` (of calls and streams), `ledger`
(shipping, growth, pages), `hostility` (while somebody attacks), `stand` (servers, load and yardstick that all of them
use), `reporting`.
"""
