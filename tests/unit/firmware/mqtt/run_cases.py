"""Runs the cases of one module under the interpreter that runs this: ``run_cases.py FOLDER MODULE``.

Prints ``ok NAME`` or ``failed NAME`` and the traceback for each; exits 1 when one failed.
"""

# MicroPython runs this file too, so it keeps to what that has.
# ruff: noqa: T201

import sys

sys.path.append(sys.argv[1])
module = __import__(sys.argv[2])
failures = 0
for name in sorted(dir(module)):
    if name.startswith("case_"):
        try:
            getattr(module, name)()
            print("ok", name)
        except Exception as fault:
            failures += 1
            print("failed", name)
            sys.print_exception(fault)
sys.exit(1 if failures else 0)
