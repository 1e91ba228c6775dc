"""The version of chatproxy, which pyproject.toml repeats."""

VERSION = "0.1.0"
