"""The limits and budgets of a key and its team: requests, tokens and parallel calls, and dollars.

Counted limits: `limiter` admits or refuses a call; at the call's end it counts the call's tokens and frees its slot.
`limit_counters` has the interface of all counters, and the counters of this process; `limit_counters_in_redis` counts
for all processes, over `redis_link`. `limit_headers` writes the `x-ratelimit-*` headers.

Output: `output_limits` reads the limits of output tokens that calls state, and adds those that the gateway chooses.

Budgets: `cost_ceiling` estimates from a call's body the upper bound of what the call can use (`request_content`).
`budgets` reserves the price of that (`usage.money.reservations`) before the call is sent upstream. At the call's end,
the `reservation` is replaced by the real cost. `allowances` pay for calls while the database is away. `usage_estimates`
estimates the usage of a call whose answer does not state it.

Counted limits import `proxyapi.keys`, budgets also `proxyapi.bodies`. Neither may import `proxyapi.call` or a view.
"""
