"""Planted bugs: each is one change to one file, and names the tests that must find it."""
