"""Clients of the gateway for tests: raw sockets, ASGI, the SDK, keys with limits, people with roles."""
