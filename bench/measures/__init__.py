"""Measures of calls and streams; each file has the measure of one figure, or of a few, of the page of results."""
