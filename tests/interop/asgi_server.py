"""Serve an ASGI application on 127.0.0.1, one request a connection: no server is installed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import h11


@asynccontextmanager
async def serving(application: Callable[..., Awaitable[None]]) -> AsyncIterator[str]:
    """Serve until the block ends; gives the address."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _answer(application, reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"


async def _answer(
    application: Callable[..., Awaitable[None]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    http = h11.Connection(h11.SERVER)
    request: Any = None
    body = b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            break

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", []), (b"connection", b"close")]
            event: Any = h11.Response(status_code=message["status"], headers=headers)
            writer.write(http.send(event) or b"")
        else:
            writer.write(http.send(h11.Data(data=message.get("body", b""))) or b"")
            if not message.get("more_body"):
                writer.write(http.send(h11.EndOfMessage()) or b"")
        await writer.drain()

    path, _, query = request.target.partition(b"?")
    await application(
        {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method.decode(),
            "scheme": "http",
            "path": path.decode(),
            "raw_path": path,
            "query_string": query,
            "headers": list(request.headers),
            "server": writer.get_extra_info("sockname")[:2],
            "client": writer.get_extra_info("peername")[:2],
        },
        receive,
        send,
    )
