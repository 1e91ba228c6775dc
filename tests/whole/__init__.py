"""Tests of the whole server: under load, through deaths and faults, against published attacks."""
