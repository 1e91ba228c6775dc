"""Upstream servers that a test controls in every detail. The simulated OpenAI is `tests.simulator`."""
