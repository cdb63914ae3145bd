"""Publishes over and over in a small heap, run by MicroPython: ``heap.py HOST PORT USER PASSWORD COUNT``.

Prints ["heap", OBJECT] as JSON: free bytes after the first tenth and at the end, each after a collection,
and the bytes that one publish allocates.
"""

import asyncio
import gc
import json
import random
import sys
import time

from surge_device.clock import Clock
from surge_device.mqtt import MqttClient
from surge_device.mqtt_settings import MqttSettings

TOPIC = b"surge/1/dev/report"
SAMPLE = 100


def free_bytes():
    gc.collect()
    return gc.mem_free()


async def main():
    host, port, user, password, count = sys.argv[1:]
    count = int(count)
    settings = MqttSettings(host, int(port), user, user=user, password=password)
    heard = [0]

    def on_message(topic, payload, retain):
        heard[0] += 1

    clock = Clock(time.ticks_ms, time.ticks_diff)
    client = MqttClient(settings, on_message, clock, random.random, subscriptions=[("surge/1/dev/ack", 0)])
    running = asyncio.create_task(client.run())
    await client.up.wait()
    payload = bytearray(120)
    free_early = 0
    for number in range(count):
        payload[0:4] = number.to_bytes(4, "big")
        await client.publish(TOPIC, payload)
        if number % 100 == 0:
            await client.publish(b"surge/1/dev/ack", payload, qos=1)
        if number == count // 10:
            free_early = free_bytes()
    free_late = free_bytes()
    gc.disable()
    before = gc.mem_alloc()
    for _ in range(SAMPLE):
        await client.publish(TOPIC, payload)
    per_publish = (gc.mem_alloc() - before) // SAMPLE
    gc.enable()
    await client.close()
    await running
    told = {"free_early": free_early, "free_late": free_late, "heard": heard[0]}
    told["allocated_per_publish"] = per_publish
    print(json.dumps(["heap", told]))


asyncio.run(main())
