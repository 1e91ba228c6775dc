"""Calls that tests make in many places: one of each kind, and what is asserted about their answers."""
