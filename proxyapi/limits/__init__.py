"""What a key may use: requests, tokens and parallel calls; and dollars.

Counted limits: `limiter` admits a call and takes its costs when it ends. `counting` is the interface of what counts and
the count in this process; `counting_in_redis` counts for all processes, over `redis_link`. `limit_headers` writes the
`x-ratelimit-*` headers.

Budgets: `cost_ceiling` estimates the most that a call can consume, from its body; `budgets` reserves that amount in
PostgreSQL (`usage.money.reservations`) before upstream hears of the call, and settles it with the call's row.
`supposed_usage` makes of the same ceiling an estimate of what a call has used that never says it.

Counted limits import `proxyapi.keys`, budgets also `proxyapi.bodies`. Neither may know a call or a view.
"""
