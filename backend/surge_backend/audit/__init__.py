"""Auditing: giving out everything that was decided, and deciding all of it again without trust.

``exporting`` reads an export from the database, ``framing`` and ``items`` are its format (spec/export.md),
``verifying`` recomputes it.
"""
