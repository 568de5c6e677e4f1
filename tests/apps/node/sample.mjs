// The sample of the mission's page: nothing but a WebSocket server on the app's port.
import { WebSocketServer } from 'ws';

const wss = new WebSocketServer({ port: Number(process.env.PORT ?? 8080) });
wss.on('connection', ws => {
  ws.on('message', data => ws.send(`echo: ${data}`));
});
wss.on('listening', () => console.log(`listening ${wss.address().port}`));
