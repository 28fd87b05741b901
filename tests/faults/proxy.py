"""A network that misbehaves: a TCP proxy whose weather a test changes while connections are open."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Literal

Kind = Literal["clear", "stall", "drop", "delay", "throttle", "reset", "truncate"]
Way = Literal["both", "there", "back"]

CHUNK = 16 * 1024
TICK_S = 0.02


@dataclass(frozen=True)
class Weather:
    """What happens to bytes that go ``there`` (to the server) or ``back``.

    Attributes
    ----------
    kind : str
        stall: they are held, and go on in clear weather. drop: they vanish; a connection that lost some is reset in
        clear weather. delay: each piece is late by 0.2 s. throttle: 20 kB a second. reset: every connection is reset
        (RST), new ones too. truncate: a piece is cut in its middle, then the connection is reset.
    """

    kind: Kind = "clear"
    way: Way = "both"


CLEAR = Weather()


class Proxy:
    """Listens on ``port`` and forwards to the port ``target``, in a thread, until `close`."""

    def __init__(self, target: int, port: int) -> None:
        self.target, self.port, self.weather = target, port, CLEAR
        self.seen: list[Weather] = []
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve(started)))
        self._thread.start()
        assert started.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._loop.close()

    def set(self, weather: Weather) -> None:
        self.weather = weather
        self.seen.append(weather)

    def storm(self, seed: int, seconds: float) -> None:
        """Change the weather at random for a while, clear skies between; end clear."""
        chance = random.Random(seed)
        end = time.monotonic() + seconds
        kinds: list[Kind] = ["stall", "drop", "delay", "throttle", "reset", "truncate"]
        ways: list[Way] = ["both", "there", "back"]
        while time.monotonic() < end:
            self.set(Weather(chance.choice(kinds), chance.choice(ways)))
            time.sleep(chance.uniform(0.1, 2.0))
            self.set(CLEAR)
            time.sleep(chance.uniform(0.0, 1.0))

    async def _serve(self, started: threading.Event) -> None:
        server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        started.set()
        async with server:
            await self._stop.wait()
        open_ = asyncio.all_tasks() - {asyncio.current_task()}
        for task in open_:
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        pumps = [
            asyncio.create_task(self._pump(reader, server[1], "there")),
            asyncio.create_task(self._pump(server[0], writer, "back")),
            asyncio.create_task(self._until_reset()),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            _reset(writer)
            _reset(server[1])

    async def _until_reset(self) -> None:
        while self.weather.kind != "reset":
            await asyncio.sleep(TICK_S)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        """Forward one way until the connection must end."""
        dropped = False
        while piece := await reader.read(CHUNK):
            while self._bad("stall", way):
                await asyncio.sleep(TICK_S)
            if self._bad("drop", way):
                dropped = True
                while self._bad("drop", way):
                    await asyncio.sleep(TICK_S)
            if dropped:
                return
            if self._bad("delay", way):
                await asyncio.sleep(0.2)
            if self._bad("throttle", way):
                await asyncio.sleep(len(piece) / 20_000)
            if self._bad("truncate", way):
                writer.write(piece[: len(piece) // 2])
                await writer.drain()
                writer.write_eof()  # not RST at once: the half must arrive
                await asyncio.sleep(TICK_S)
                return
            writer.write(piece)
            await writer.drain()

    def _bad(self, kind: Kind, way: Way) -> bool:
        return self.weather.kind == kind and self.weather.way in ("both", way)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST, as a crashed peer does."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
