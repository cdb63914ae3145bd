"""The one timer: in time, in order, fair to the loop, and loud."""

import asyncio

import pytest

from surge_cli.simulate import wheel
from surge_cli.simulate.wheel import TICK_MS, Wheel


def no_failure(error: BaseException) -> None:
    raise AssertionError from error


async def test_calls_come_in_time_and_in_order() -> None:
    clock = Wheel(no_failure)
    called: list[tuple[int, int]] = []
    done = asyncio.Event()
    due = (90, 30, 30, 61, 0)
    for place, due_ms in enumerate(due):
        clock.at(due_ms, lambda now_ms, one=place: called.append((one, now_ms)))  # type: ignore[misc]
    clock.at(100, lambda _now_ms: done.set())
    await done.wait()
    assert [place for place, _ in called] == [4, 1, 2, 3, 0]
    for place, now_ms in called:
        assert now_ms >= due[place]
    clock.close()


async def test_a_call_may_ask_for_the_next_one_and_for_the_past() -> None:
    clock = Wheel(no_failure)
    seen: list[int] = []
    done = asyncio.Event()

    def again(now_ms: int) -> None:
        seen.append(now_ms)
        if len(seen) == 5:
            done.set()
        else:
            clock.at(now_ms - 10 * TICK_MS if len(seen) % 2 else now_ms + TICK_MS, again)

    clock.at(0, again)
    await done.wait()
    assert seen == sorted(seen)
    clock.close()


async def test_much_to_do_does_not_shut_out_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "TURN_S_MAX", -1.0)  # after each call the loop has its turn
    clock = Wheel(no_failure)
    called: list[str] = []
    done = asyncio.Event()
    for _ in range(50):
        clock.at(0, lambda _now_ms: called.append("wheel"))
    clock.at(0, lambda _now_ms: done.set())

    async def other() -> None:
        while not done.is_set():
            called.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(done.wait(), other())
    assert called.count("wheel") == 50
    assert called.count("other") >= 50
    clock.close()


async def test_what_a_call_raises_is_told_and_ends_it() -> None:
    failures: list[BaseException] = []
    told = asyncio.Event()

    def failed(error: BaseException) -> None:
        failures.append(error)
        told.set()

    clock = Wheel(failed)
    clock.at(0, lambda _now_ms: 1 // 0)  # type: ignore[arg-type, return-value]
    await told.wait()
    assert isinstance(failures[0], ZeroDivisionError)
    clock.close()


async def test_nothing_is_called_after_the_end() -> None:
    clock = Wheel(no_failure)
    called: list[int] = []
    clock.at(0, called.append)
    clock.close()
    clock.at(0, called.append)
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(2 * TICK_MS / 1000, done.set)
    await done.wait()
    assert called == []
