"""The cases of ``protocol/vectors``, a module for each group of files; ``tools/make_vectors.py`` writes them.

Each case has one name and, where it is invalid, one mutation. Published examples stand here as literals
with their source; everything else follows from ``inputs``.
"""
