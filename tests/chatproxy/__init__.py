"""Tests of `chatproxy`, folder by folder."""
