"""The simulator's Responses API and conversations."""
