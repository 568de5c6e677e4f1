"""client.py ADDRESS HOST PATH echo|sample: talks to an app through a proxy, fails at the first difference.

Over TLS where CA names a file of authorities.
echo: every size as text and as binary, fragments, ping and pong, close with code and reason, compressed.
"""

import asyncio
import os
import ssl
import sys

from websockets.asyncio.client import connect

SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 16 << 20]


async def echo(socket):
    assert [extension.name for extension in socket.protocol.extensions] == ["permessage-deflate"]
    for size in SIZES:
        for message in (os.urandom(size), "ab" * (size // 2) + "c" * (size % 2)):
            await socket.send(message)
            assert await socket.recv() == message, f"{size} bytes came back changed"
    await socket.send(["in ", "three ", "fragments"])
    assert await socket.recv() == "in three fragments"
    await (await socket.ping("are you there"))
    await socket.close(4001, "enough")
    assert (socket.close_code, socket.close_reason) == (4001, "enough")


async def sample(socket):
    await socket.send("hello")
    assert await socket.recv() == "echo: hello"


async def main():
    address, host, path, app = sys.argv[1:]
    ip, port = address.rsplit(":", 1)
    ca = os.environ.get("CA")
    uri = f"{'wss' if ca else 'ws'}://{host}{path}"
    context = ssl.create_default_context(cafile=ca) if ca else None
    async with asyncio.timeout(60):
        async with connect(uri, host=ip, port=int(port), ssl=context, max_size=None, proxy=None) as socket:
            await {"echo": echo, "sample": sample}[app](socket)
    print("done")


asyncio.run(main())
