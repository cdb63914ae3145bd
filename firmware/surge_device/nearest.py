"""Finds the known word nearest to an unknown one, for error messages that name the likely meaning.

CPython's difflib doesn't exist on boards; this is the plain Levenshtein distance on two rows.
"""

DISTANCE_MAX = 4  # beyond this a suggestion misleads more than it helps


def distance(left, right):
    """The number of single-character edits between two strings."""
    previous = list(range(len(right) + 1))
    for row, a in enumerate(left):
        current = [row + 1]
        for column, b in enumerate(right):
            current.append(min(previous[column + 1] + 1, current[column] + 1, previous[column] + (a != b)))
        previous = current
    return previous[-1]


def nearest(word, known):
    """The entry of ``known`` nearest to ``word``, or None when none is near."""
    best, best_distance = None, DISTANCE_MAX + 1
    for candidate in sorted(known):
        edits = distance(word, candidate)
        if edits < best_distance and edits < max(len(word), len(candidate)):
            best, best_distance = candidate, edits
    return best


def suggestion(word, known):
    """The tail of an error message: the nearest known word, or all of them."""
    best = nearest(word, known)
    if best is not None:
        return "did you mean '" + best + "'?"
    return "known: " + ", ".join(sorted(known))
