"""Calls of every kind and what OpenAI bills for each, worked out by hand."""
