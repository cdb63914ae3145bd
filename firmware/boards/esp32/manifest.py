# ruff: noqa: F821 - MicroPython's build gives these names
# What is frozen into the esp32 image (FROZEN_MANIFEST=this file): the wire format, the device
# and this board. The port's own manifest brings asyncio.
include("$(PORT_DIR)/boards/manifest.py")
package("surge_wire", base_path="../../../protocol")
package("surge_device", base_path="../..")
package("boards", files=("__init__.py", "esp32/__init__.py", "esp32/board.py"), base_path="../..")
module("main.py")
