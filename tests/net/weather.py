"""weather.py - a bad network between a client and a server: a proxy that hands bytes on late, in pieces
of any size, sometimes not at all for a while, and resets connections where it likes. What it does is
drawn from a seed for each connection; what came of it depends on the clock as well.
"""
import asyncio
import random
import socket
import struct
import threading

RESET = struct.pack("ii", 1, 0)


class Weather:
    def __init__(self, target, seed, least=2000, most=200_000, late_ms=5):
        self.target, self.seed, self.span, self.late = target, seed, (least, most), late_ms / 1e3
        self.connections = self.resets = self.pieces = 0
        self.loop = asyncio.new_event_loop()
        self.started = threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()
        self.started.wait(20)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)

    def _live(self):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        self.started.set()
        self.loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0.05))

    async def _serve(self, reader, writer):
        rng = random.Random(self.seed * 100_003 + self.connections)
        self.connections += 1
        left = [rng.randint(*self.span)]  # bytes of both directions until it breaks
        try:
            other, far = await asyncio.open_connection(*self.target)
        except OSError:
            writer.close()
            return
        ways = [asyncio.ensure_future(self._carry(a, b, left, rng)) for a, b in ((reader, far), (other, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if left[0] <= 0:
                self.resets += 1
                for w in (writer, far):
                    w.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    w.transport.abort()
        finally:
            for x in ways:
                x.cancel()
            for w in (writer, far):
                w.close()

    async def _carry(self, reader, writer, left, rng):
        try:
            while left[0] > 0:
                data = await reader.read(rng.choice((1, 7, 100, 1460, 1460, 16384)))
                if not data:
                    return
                if rng.random() < 0.05:
                    await asyncio.sleep(rng.uniform(0, 10 * self.late))  # a packet lost, and sent again
                elif rng.random() < 0.3:
                    await asyncio.sleep(rng.uniform(0, self.late))
                data = data[:left[0]]
                left[0] -= len(data)
                self.pieces += 1
                writer.write(data)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            return
