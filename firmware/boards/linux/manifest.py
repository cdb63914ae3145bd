# ruff: noqa: F821 - MicroPython's build gives these names
# What is frozen into the linux image (FROZEN_MANIFEST=this file): the wire format, the device
# and this board. The port's own manifest brings asyncio.
include("$(PORT_DIR)/variants/manifest.py")
package("surge_wire", base_path="../../../protocol")
package("surge_device", base_path="../..")
package(
    "boards",
    files=(
        "__init__.py",
        "linux/__init__.py",
        "linux/board.py",
        "linux/stop_signals.py",
        "linux/main.py",
    ),
    base_path="../..",
)
