"""A WebSocket app: a message comes back as it is, compressed where negotiated."""

import asyncio
import os
from contextlib import suppress

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(socket):
    with suppress(ConnectionClosed):
        async for message in socket:
            await socket.send(message)


async def main():
    async with serve(echo, os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", 8080)), max_size=None) as server:
        print("listening", server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
