"""Every size and count that the wire format bounds, in one place.

A decoder checks these before it allocates; an encoder refuses to make what a decoder would refuse.
The spec pages cite these names. Lengths are bytes, counts are items.
"""

# CBOR subset (spec/cbor.md)
CBOR_DEPTH_MAX = 8  # arrays and maps inside each other, the outermost counted as 1
CBOR_LEN_MAX = 8 * 1024 * 1024  # the longest input that any decoder looks at

UINT32_MAX = 0xFFFFFFFF
UINT53_MAX = (1 << 53) - 1  # counters and times stay exact in every JSON reader

# Identities (spec/identity.md)
ID_LEN = 17  # a letter for the kind and 16 base32 characters: 80 random bits
SECRET_LEN = 32
KEY_LEN = 32
HASH_LEN = 32
MAC_LEN = 32
SIGNATURE_LEN = 64
PUBLIC_KEY_LEN = 32

# Report (spec/report.md)
REPORT_LEN_MAX = 4096  # a whole envelope
REPORT_PAYLOAD_LEN_MAX = REPORT_LEN_MAX - 96
RECORDS_MAX = 64  # SenML records in one pack
NAME_LEN_MAX = 64
UNIT_LEN_MAX = 16
TEXT_VALUE_LEN_MAX = 256

# Ack (spec/ack.md)
ACK_RANGES_MAX = 16
ACK_LEN_MAX = 256

# Command (spec/command.md)
COMMAND_LEN_MAX = 1024
COMMAND_ARGS_LEN_MAX = 512

# Batch (spec/batch.md)
BATCH_LEN_MAX = 4 * 1024 * 1024
BATCH_REPORTS_MAX = 10_000
BATCH_WINDOWS_MAX = 10_000
BATCH_SUMMARISED_MAX = 10_000
SUMMARISED_RANGES_MAX = 256

# Log (spec/log.md)
TREE_SIZE_MAX = 1 << 48
PROOF_PATH_MAX = 64
RECEIPT_LEN_MAX = 8192
SETTLEMENT_LEN_MAX = 1024 * 1024
SETTLEMENT_ENTRIES_MAX = 20_002
