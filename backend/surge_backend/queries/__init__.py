"""What people are shown of devices and the backend, read from what ingest stored.

Place in the flow: the API calls these with a connection of `Database.read`, after it has checked who asks.

Rules kept: nothing here writes or decides; every answer, and every row looked at for it, is bounded by a
named limit.
"""
