// Tells each socket, as its first message, what its handshake was like: {url, headers}. Chooses chat, where it is offered.
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const server = createServer((request, response) => response.end('hello'));
const wss = new WebSocketServer({
  server,
  handleProtocols: (offered) => offered.has('chat') && 'chat',
});
wss.on('connection', (ws, { url, rawHeaders }) => ws.send(JSON.stringify({ url, headers: rawHeaders })));
server.listen(Number(process.env.PORT ?? 8080), () => console.log(`listening ${server.address().port}`));
