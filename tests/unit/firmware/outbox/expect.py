"""The one assertion helper of the case modules, on both interpreters."""


def raises(kind, function, *args):
    """The error of ``kind`` that the call raises; anything else fails."""
    try:
        function(*args)
    except kind as error:
        return error
    raise AssertionError("nothing raised")
