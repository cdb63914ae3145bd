"""Surge on this board; see `board`."""
