"""Measures of calls and streams: one file for each figure of the report."""
