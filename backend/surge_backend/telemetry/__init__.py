"""Telemetry: the store's port, its implementations, and the projector that feeds it from accepted reports."""
