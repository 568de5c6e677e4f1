"""Tells each socket, as its first message, what its handshake was like: {path, headers}. Chooses chat, where it is offered."""

import asyncio
import json
import os

from websockets.asyncio.server import serve


async def tell(socket):
    headers = [part for header in socket.request.headers.raw_items() for part in header]
    await socket.send(json.dumps({"path": socket.request.path, "headers": headers}))
    await socket.wait_closed()


def choose(_, offered):
    return "chat" if "chat" in offered else None


async def main():
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", 8080))
    async with serve(tell, host, port, select_subprotocol=choose) as server:
        print("listening", server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
