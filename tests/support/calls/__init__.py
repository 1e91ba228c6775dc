"""Calls that many tests make, one of each kind, and assertions about their answers."""
