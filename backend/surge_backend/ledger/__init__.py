"""The ledger: what accepted work is worth, and double entry that can't lose or invent a micro-credit."""
