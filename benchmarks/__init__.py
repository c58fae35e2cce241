"""Measurements, apart from the tests: each answers one stated question."""
