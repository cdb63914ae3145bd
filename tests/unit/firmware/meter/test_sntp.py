"""The SNTP client against a real UDP server on loopback."""

import asyncio
import struct

import pytest

from surge_device import sntp
from surge_device.errors import NetworkError


class Server(asyncio.DatagramProtocol):
    """Answers each question ``answers(question)`` at once."""

    def __init__(self, answers):
        self.answers = answers

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        for answer in self.answers(data):
            self.transport.sendto(answer, address)


def reply(question, seconds=4009000000):
    assert question[0] == 0x23
    assert len(question) == 48
    return b"\x24\x01" + bytes(22) + question[40:48] + bytes(8) + struct.pack(">II", seconds, 0)


async def sleep_ms(duration):
    await asyncio.sleep(duration / 1000)


async def ask(answers, timeout_ms=3000):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Server(answers), local_addr=("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        return await sntp.query("127.0.0.1", sleep_ms, port, timeout_ms)
    finally:
        transport.close()


async def test_the_servers_time_is_returned():
    assert await ask(lambda question: [reply(question)]) == (4009000000 - 2208988800) * 1000


async def test_a_forgers_answer_is_passed_over():
    forged = b"\x24\x01" + bytes(46)
    assert await ask(lambda question: [forged, reply(question)]) == (4009000000 - 2208988800) * 1000


async def test_no_answer_is_an_error_that_names_the_server():
    with pytest.raises(NetworkError, match=r"'127\.0\.0\.1': no valid answer"):
        await ask(lambda question: [], timeout_ms=60)


async def test_an_unknown_host_is_an_error_with_a_remedy(monkeypatch):
    def refuse(*_):
        raise OSError(-2, "name not known")

    monkeypatch.setattr(sntp.socket, "getaddrinfo", refuse)
    with pytest.raises(NetworkError, match="remedy: check ntp_host"):
        await sntp.query("nowhere.invalid", sleep_ms)
