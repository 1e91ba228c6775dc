"""Measures how much well-behaved calls suffer while somebody attacks the server: `python -m bench.hostility.run`.

`attacks` describes the attacks, `stranger` carries them out, and `good_calls` measures a well-behaved client meanwhile.
`refusals` measures whether the time that a refusal takes reveals its reason.
"""
