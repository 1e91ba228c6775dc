"""Upstreams that a test controls: held, quoting, raw. The simulated OpenAI is `tests.simulator`."""
