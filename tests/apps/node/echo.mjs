// HTTP and WebSockets on one port: GET answers "hello"; a message comes back as it is, compressed where negotiated.
// A socket on /keepalive is pinged every 100 ms, cut when a pong is missing, and told how many pongs have come.
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const server = createServer((request, response) => response.end('hello'));
const wss = new WebSocketServer({ server, perMessageDeflate: { threshold: 0 } });

wss.on('connection', (ws, request) => {
  ws.on('message', (data, binary) => ws.send(data, { binary }));
  if (request.url === '/keepalive') keepAlive(ws);
});

function keepAlive(ws) {
  let pongs = 0;
  let missing = 0;
  ws.on('pong', () => {
    pongs += 1;
    missing = 0;
    ws.send(`${pongs}`);
  });
  const timer = setInterval(() => {
    // 5 s without a pong.
    if (missing === 50) ws.terminate();
    missing += 1;
    ws.ping();
  }, 100);
  ws.on('close', () => clearInterval(timer));
}

server.listen(Number(process.env.PORT ?? 8080), () => console.log(`listening ${server.address().port}`));
