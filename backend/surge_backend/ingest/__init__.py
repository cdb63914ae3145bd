"""Ingest: one signed batch in, one transaction, one answer out. `Ingest` is what the API calls."""

from surge_backend.ingest.service import Ingest, SubmissionResult

__all__ = ("Ingest", "SubmissionResult")
