"""An upstream that does to the letter what the request tells it, right or wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading

HEAD = b"HTTP/1.1 %d X\r\ncontent-type: %b\r\n"
SSE = b"text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"


def event(answer_id, text):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    body = {"id": answer_id, "object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def plain(answer_id, text="Hello"):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    return json.dumps({"id": answer_id, "choices": [choice]}).encode()


class ScriptedUpstream:
    """Runs in a thread; what it is to do with a request is looked up by the member ``script``.

    A script is an async function of the writer and of the request's body.
    """

    def __init__(self, path=None):
        self.scripts = {}
        self.seen = []
        self.closed = []
        self._path = path
        self._server = None
        self._writers = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started = threading.Event()
        self.port = 0

    def start(self):
        self._thread.start()
        assert self._started.wait(10)
        return self

    @property
    def address(self):
        return f"unix:{self._path}" if self._path else f"http://127.0.0.1:{self.port}/v1"

    def _run(self):
        async def serve():
            if self._path:
                self._server = await asyncio.start_unix_server(self._serve, self._path)
            else:
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
                self.port = self._server.sockets[0].getsockname()[1]
            self._started.set()

        self._loop.run_until_complete(serve())
        self._loop.run_forever()
        self._loop.close()

    def stop(self):
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _shut_down(self):
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line, *lines = head.decode().split("\r\n")
                headers = dict(one.lower().split(": ", 1) for one in lines if one)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if line.startswith("GET"):
                    listed = b'{"object":"list","data":[{"id":"default"}]}'
                    writer.write(whole(listed))
                    continue
                self.seen.append((line, headers, body))
                script = self.scripts[json.loads(body)["script"]]
                doing = asyncio.ensure_future(script(writer, body))
                gone = asyncio.ensure_future(reader.read(1))
                await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
                left = not doing.done()
                if left:
                    self.closed.append(json.loads(body)["script"])
                # Both are awaited: a task's exception that nobody takes is logged when the garbage
                # is collected, in the middle of somebody else's test.
                for task in (doing, gone):
                    task.cancel()
                done, _ = await asyncio.gather(doing, gone, return_exceptions=True)
                if left:
                    break
                if isinstance(done, BaseException):
                    raise done
                if writer.is_closing():
                    break
        writer.close()
        self._writers.discard(writer)


def whole(body, *, status=200, kind=b"application/json", extra=b""):
    head = HEAD % (status, kind)
    return head + extra + b"content-length: %d\r\n\r\n" % len(body) + body


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def answers(raw, **arguments):
    """A script: one whole answer."""

    async def script(writer, _):
        writer.write(whole(raw, **arguments))

    return script


def streams(*chunks, end=b"0\r\n\r\n", status=200, then=None, pause=0.0):
    """A script: a stream in these chunks, then what ends it, then something else."""

    async def script(writer, _):
        writer.write(HEAD % (status, SSE) + b"transfer-encoding: chunked\r\n\r\n")
        for one in chunks:
            writer.write(chunk(one))
            await writer.drain()
            await asyncio.sleep(pause)
        writer.write(end)
        if then is not None:
            await writer.drain()
            await then(writer)

    return script


def raw(data, *, then=None):
    """A script: these very bytes."""

    async def script(writer, _):
        writer.write(data)
        await writer.drain()
        if then is not None:
            await then(writer)

    return script


async def close(writer):
    writer.close()


async def reset(writer):
    await asyncio.sleep(0.05)
    opened = writer.get_extra_info("socket")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang(_):
    await asyncio.sleep(60)
