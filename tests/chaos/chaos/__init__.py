"""A real network, broken at random from a seed, and whether its books agree afterwards.

``schedule`` says what is done to whom, ``torment`` does it to the parts of ``site`` and watches them recover,
``books`` judges what is left. ``run_chaos.py`` beside this package is the command.
"""
