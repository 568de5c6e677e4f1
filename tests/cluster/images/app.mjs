// An app as users have it: HTTP, and WebSockets by `ws`. It says which pod answers.
import { createServer } from 'node:http';
import { hostname } from 'node:os';
import { WebSocketServer } from 'ws';

const server = createServer((request, response) => response.end(`${hostname()} ${request.url}\n`));
const sockets = new WebSocketServer({ server });
sockets.on('connection', (socket) => {
  socket.on('message', (data, binary) => socket.send(binary ? data : `echo: ${data}`, { binary }));
});
server.listen(3000);
// As PID 1 it would not hear of SIGTERM otherwise.
process.on('SIGTERM', () => process.exit(0));
