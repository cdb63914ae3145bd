"""CBOR for all other modules: ``encode(value) -> bytes`` and ``decode(data) -> value`` of the subset.

``cbor_pure`` states the subset. Encoding is the pure one on both interpreters. Decoding is cbor2 where it is
installed, with the options that bound it, and a walk over the result that refuses what the subset
leaves out; the same vectors and a differential fuzzer hold the two decoders together.
"""

from .cbor_pure import encode

try:
    from .cbor_cpython import decode
except ImportError:  # MicroPython, or CPython without cbor2
    from .cbor_pure import decode

__all__ = ("decode", "encode")
