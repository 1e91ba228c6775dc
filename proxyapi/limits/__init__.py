"""What a key and its team may use: requests, tokens and parallel calls; and dollars.

Counted limits: `limiter` admits or refuses a call; when the call ends, it counts its tokens and frees its slot.
`limit_counters` has the interface of all counters, and the counters of this process; `limit_counters_in_redis` counts
for all processes, over `redis_link`. `limit_headers` writes the `x-ratelimit-*` headers.

Output: `output_limits` reads the limits of output tokens that calls state, and adds those that the gateway chooses.

Budgets: `cost_ceiling` estimates the most that a call can consume, from its body (`request_content`); `budgets`
reserves that amount (`usage.money.reservations`) before the call is sent upstream; a `reservation` is replaced by the
cost afterwards. `allowances` are for times when the database is away.
`usage_estimates` estimates from the same ceiling what a call has used whose answer does not state it.

Counted limits import `proxyapi.keys`, budgets also `proxyapi.bodies`. Neither may import `proxyapi.call` or a view.
"""
