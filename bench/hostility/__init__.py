"""What good calls lose while somebody attacks: `python -m bench.hostility.run.run`.

`attacks` are the requests, `stranger` sends them, `good_calls` measures a good caller meanwhile. `refusals` measures
whether the time of a refusal tells its reason.
"""
