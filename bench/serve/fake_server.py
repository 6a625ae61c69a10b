"""Stands for a server in the tests: a token is a word, and an answer comes as slowly as a test wants."""
import asyncio
import json


class FakeServer:
    """Serves /v1/models, /tokenize and streams of /v1/completions on a port of its own."""

    def __init__(self, pause_s: float = 0.002, fail_every: int = 0, first_pause_s: float = 0.0):
        self.pause_s, self.fail_every, self.first_pause_s = pause_s, fail_every, first_pause_s
        self.words: dict[str, int] = {}
        self.asked: list[dict] = []
        self.running = self.most_running = 0
        self.tasks: set[asyncio.Task] = set()

    async def __aenter__(self) -> "FakeServer":
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.ensure_future(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
            body = await reader.readexactly(int(fields.get("Content-Length", 0)))
            await self.answer(head.split()[1].decode(), json.loads(body) if body else None, writer)
        except ConnectionError:
            pass  # the client has left
        finally:
            writer.close()

    async def answer(self, path: str, asked: dict | None, writer: asyncio.StreamWriter) -> None:
        if path == "/v1/models":
            await self.whole(writer, 200, {"data": [{"id": "fake"}]})
        elif path == "/tokenize":
            ids = [self.words.setdefault(word, len(self.words)) for word in asked["content"].split()]
            await self.whole(writer, 200, {"tokens": ids})
        elif path == "/v1/completions":
            self.asked.append(asked)
            if self.fail_every and len(self.asked) % self.fail_every == 0:
                await self.whole(writer, 429, {"error": {"message": "too many"}})
            else:
                await self.stream(asked, writer)
        else:
            await self.whole(writer, 404, {"error": {"message": "not here"}})

    @staticmethod
    async def whole(writer: asyncio.StreamWriter, status: int, told: dict) -> None:
        body = json.dumps(told).encode()
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()

    async def stream(self, asked: dict, writer: asyncio.StreamWriter) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await asyncio.sleep(self.first_pause_s)
            n_prompt, n_generated = len(asked["prompt"]), asked["max_tokens"]
            for number in range(n_generated):
                await self.event(writer, {"choices": [{"index": 0, "text": f"t{number} "}]})
                await asyncio.sleep(self.pause_s)
            usage = {"prompt_tokens": n_prompt, "completion_tokens": n_generated}
            await self.event(writer, {"choices": [], "usage": usage | {"prompt_tokens_details": {"cached_tokens": 3}}})
            await self.event(writer, None)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        finally:
            self.running -= 1

    @staticmethod
    async def event(writer: asyncio.StreamWriter, told: dict | None) -> None:
        data = b"data: " + (json.dumps(told).encode() if told else b"[DONE]") + b"\n\n"
        # In two chunks, cut in the middle of a line, as a proxy might.
        for part in (data[:7], data[7:]):
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
        await writer.drain()
