"""A device under remote control, run by MicroPython: the firmware's MQTT client and nothing else.

The first line on stdin is a JSON object: "subscriptions", and the settings by their names in MqttSettings.
(It can't be an argument: MicroPython's unix port ends with "uncaught NLR" when one has more than 255
bytes.) Then it reads commands from stdin and prints what happens on stdout, both as JSON lists, one per
line. Commands: ["publish", topic, text, qos, retain], ["subscribe", [[filter, qos], ...]], ["close"].
"""

import asyncio
import json
import random
import sys
import time

from surge_device.clock import Clock
from surge_device.mqtt import MqttClient
from surge_device.mqtt_errors import MqttError
from surge_device.mqtt_settings import MqttSettings


class Log:
    def info(self, *values):
        print(json.dumps(["log", " ".join([str(value) for value in values])]))

    warning = info


def on_message(topic, payload, retain):
    print(json.dumps(["message", topic, payload.decode(), retain]))


def on_link(up, fault):
    print(json.dumps(["up"] if up else ["down", type(fault).__name__, str(fault)]))


async def obey(client, command, values):
    try:
        if command == "publish":
            topic, text, qos, retain = values
            print(json.dumps(["published", await client.publish(topic, text.encode(), qos, retain)]))
        elif command == "subscribe":
            await client.subscribe([(topic, qos) for topic, qos in values[0]])
            print(json.dumps(["subscribed"]))
        else:
            await client.close()
    except MqttError as fault:
        print(json.dumps(["error", type(fault).__name__, str(fault)]))


async def main():
    commands = asyncio.StreamReader(sys.stdin)
    given = json.loads(await commands.readline())
    subscriptions = [(topic, qos) for topic, qos in given.pop("subscriptions", [])]
    settings = MqttSettings(given.pop("host"), given.pop("port"), given.pop("client_id"), **given)
    clock = Clock(time.ticks_ms, time.ticks_diff)
    client = MqttClient(
        settings, on_message, clock, random.random, Log(), on_link=on_link, subscriptions=subscriptions
    )
    running = asyncio.create_task(client.run())
    while True:
        line = await commands.readline()
        if not line:
            break
        command = json.loads(line)
        await obey(client, command[0], command[1:])
        if command[0] == "close":
            await running
            print(json.dumps(["closed"]))
            break


asyncio.run(main())
