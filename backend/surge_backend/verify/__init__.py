"""Verification: what becomes of each report of a batch. Pure: values in, verdicts out, no I/O and no clock.

``reading`` opens envelopes and checks MACs, ``judging`` decides by the device's history, ``evidence`` says
what a person has to know when a device is frozen.
"""
