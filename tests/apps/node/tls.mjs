// HTTPS and WebSockets over TLS on one port, with the PEM of CERT and KEY. With CLIENT_CA clients must show a certificate
// of it; MAX_VERSION is the latest TLS version. GET answers what TLS has agreed on, POST its body; a message comes back.
import { createServer } from 'node:https';
import { WebSocketServer } from 'ws';

const { CERT: cert, KEY: key, CLIENT_CA: ca, MAX_VERSION: maxVersion } = process.env;

const server = createServer({ cert, key, ca, maxVersion, requestCert: Boolean(ca) }, (request, response) => {
  if (request.method === 'POST') return request.pipe(response);
  if (request.url === '/close') response.setHeader('connection', 'close');
  response.end(JSON.stringify(agreed(request)));
});

const agreed = ({ socket, headers }) => ({
  version: socket.getProtocol(),
  name: socket.servername,
  protocol: socket.alpnProtocol,
  client: socket.getPeerCertificate().subject?.CN,
  resumed: socket.isSessionReused(),
  port: socket.remotePort,
  host: headers.host,
});

const wss = new WebSocketServer({ server, maxPayload: 1 << 26 });
wss.on('connection', (ws, request) => {
  if (request.url === '/agreed') ws.send(JSON.stringify(agreed(request)));
  ws.on('message', (data, binary) => ws.send(data, { binary }));
});

server.listen(Number(process.env.PORT ?? 8443), process.env.HOST, () => console.log(`listening ${server.address().port}`));
