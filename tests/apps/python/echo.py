"""A WebSocket app: a message comes back as it is, compressed where negotiated. Over TLS with the PEM of CERT and KEY."""

import asyncio
import os
import ssl
import tempfile
from contextlib import suppress

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(socket):
    with suppress(ConnectionClosed):
        async for message in socket:
            await socket.send(message)


def tls():
    if "CERT" not in os.environ:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(os.environ["CERT"] + os.environ["KEY"])
        file.flush()
        context.load_cert_chain(file.name)
    return context


async def main():
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", 8080))
    async with serve(echo, host, port, ssl=tls(), max_size=None) as server:
        print("listening", server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
