"""Tests of `usage`, folder by folder."""
