"""The backend: verifies what gateways forward, keeps ledger and log, and derives telemetry from both."""
