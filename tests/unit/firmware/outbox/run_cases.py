"""Runs on MicroPython: every case of a module, each in a fresh folder. See both_interpreters.py."""

import gc
import os
import sys

sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[2])
module = __import__(sys.argv[3])
for name in sorted(dir(module)):
    if name.startswith("case_"):
        folder = sys.argv[4] + "/" + name
        os.mkdir(folder)
        gc.collect()
        getattr(module, name)(folder)
        getattr(module, "clean_up", int)()
        print("ok", name)
