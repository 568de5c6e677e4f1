"""subprotocol.py ADDRESS HOST OFFERED CHOSEN: offers subprotocols, one of them a token, to an app that tells what it was told.

Over TLS where CA names a file of authorities.
"""

import asyncio
import os
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


async def main():
    address, host, offered, chosen = sys.argv[1:]
    ip, port = address.rsplit(":", 1)
    ca = os.environ.get("CA")
    context = ssl.create_default_context(cafile=ca) if ca else None

    def opened(subprotocols):
        uri = f"{'wss' if ca else 'ws'}://{host}/ws"
        return connect(uri, host=ip, port=int(port), ssl=context, subprotocols=subprotocols, proxy=None)

    async with asyncio.timeout(60):
        async with opened(offered.split(",")) as socket:
            assert socket.subprotocol == chosen, socket.subprotocol
            told = (await socket.recv()).lower()
            assert "x-postern-principal" in told and "bearer" not in told, told
        try:
            async with opened(["chat", "bearer.wrong"]):
                raise AssertionError("opened with a wrong token")
        except InvalidStatus as refused:
            assert refused.response.status_code == 401
    print("done")


asyncio.run(main())
