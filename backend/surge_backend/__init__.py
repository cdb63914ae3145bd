"""The backend: verifies what gateways forward, keeps the ledger and the log, and derives telemetry from both."""
