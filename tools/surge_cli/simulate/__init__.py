"""``surge simulate``: thousands of devices against a real network, with everything that goes wrong."""
