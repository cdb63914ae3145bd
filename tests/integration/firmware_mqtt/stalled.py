"""Sends through a socket whose buffers are full, run by MicroPython: ``stalled.py PORT COUNT``.

Fills the socket with zeros until it takes nothing, sends COUNT publishes through an ``MqttLink`` and prints
JSON lists: ["stalled", zeros] while the first of them waits, ["sent"] when all are written.
"""

import asyncio
import json
import socket
import sys
import time

from surge_device.clock import Clock
from surge_device.mqtt_link import MqttLink
from surge_device.mqtt_packets import encode_publish
from surge_device.mqtt_settings import MqttSettings

TURNS = 20


async def main():
    port, count = int(sys.argv[1]), int(sys.argv[2])
    sock = socket.socket()
    sock.connect(socket.getaddrinfo("127.0.0.1", port)[0][-1])
    sock.setblocking(False)
    zeros, filler = 0, bytes(1000)
    while True:
        taken = sock.write(filler)
        if taken is None:
            break
        zeros += taken

    async def on_packet(packet):
        raise AssertionError(packet)

    clock = Clock(time.ticks_ms, time.ticks_diff)
    settings = MqttSettings("127.0.0.1", port, "dev")
    link = MqttLink(settings, clock, on_packet, lambda fault: print(json.dumps(["lost", str(fault)])))
    link.start(asyncio.StreamReader(sock))

    async def send_all():
        for number in range(count):
            text = b"%04d" % number + b"x" * (number * 7 % 4000)
            await link.send(encode_publish, "a", text, 0, False, False, 0)

    sending = asyncio.create_task(send_all())
    for _ in range(TURNS):
        await asyncio.sleep_ms(0)
    if link.bytes_sent == 0:
        print(json.dumps(["stalled", zeros]))
    await sending
    print(json.dumps(["sent"]))
    await link.stop()


asyncio.run(main())
