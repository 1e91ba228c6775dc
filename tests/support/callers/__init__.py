"""Callers of the gateway: raw sockets, ASGI, the SDK, keys with limits, people with roles."""
