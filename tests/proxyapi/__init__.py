"""Tests of `proxyapi`, folder by folder."""
