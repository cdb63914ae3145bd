"""A JSON file's bytes as a dict; stricter than MicroPython's own parser, which takes a torn file for a
whole one."""

import json


def decode_object(data):
    """The object in ``data``, or None when that isn't one whole JSON object."""
    data = data.strip()
    if data[:1] != b"{" or data[-1:] != b"}":
        return None
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
