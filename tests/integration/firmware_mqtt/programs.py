"""What a test of the MQTT client talks to: its own MicroPython programs, and a client of the other side."""

import json
import os
import queue
import subprocess
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from private_brokers import ADMIN, HANG_S, Lines

from surge_cli.micropython import Interpreter
from surge_cli.sources import micropython_path

HERE = Path(__file__).parent


class Program:
    """A program of this folder in a real MicroPython with a small heap. It prints a JSON list per line."""

    def __init__(self, micropython: Interpreter, name: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*micropython.argv, "-X", "heapsize=256k", str(HERE / name), *arguments],
            env={**os.environ, "MICROPYPATH": micropython_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines = Lines(self.process.stdout)

    def expect(self, kind: str) -> list[Any]:
        """The rest of the next line of that kind; other lines are passed over."""
        while (line := self.lines.next()) is not None:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # a traceback; it is shown when the program ends
            if said[0] == kind:
                return list(said[1:])
        raise AssertionError(f"the program ended before it said {kind!r}: {self.lines.seen}")

    def write(self, value: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        assert self.process.stdin is not None
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.lines.close()


class Device(Program):
    """The program ``device.py``."""

    def __init__(self, micropython: Interpreter, settings: dict[str, Any]) -> None:
        super().__init__(micropython, "device.py")
        self.write(settings)

    def tell(self, *command: Any) -> None:
        self.write(command)

    def publish(self, topic: str, text: str, qos: int = 0, retain: bool = False) -> None:
        self.tell("publish", topic, text, qos, retain)
        self.expect("published")


class Observer:
    """The other side: a client of another make with all rights."""

    def __init__(self, port: int, filters: str) -> None:
        self.messages: queue.Queue[tuple[str, str, bool]] = queue.Queue()
        subscribed: queue.Queue[bool] = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(*ADMIN)
        self._client.on_connect = lambda client, *_: client.subscribe(filters, 1)
        self._client.on_subscribe = lambda *_: subscribed.put(True)
        self._client.on_message = lambda _client, _data, message: self.messages.put(
            (message.topic, message.payload.decode(errors="replace"), message.retain)
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        subscribed.get(timeout=HANG_S)

    def next(self) -> tuple[str, str, bool]:
        return self.messages.get(timeout=HANG_S)

    def publish(self, topic: str, text: str, qos: int, retain: bool = False) -> None:
        self._client.publish(topic, text, qos, retain).wait_for_publish(HANG_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
