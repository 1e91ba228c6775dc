"""The simulator's endpoints, but the Responses API."""
