// node client.mjs ADDRESS HOST PATH echo|sample: talks to an app through a proxy, fails at the first difference.
// Over TLS where CA names a file of authorities.
// echo: every size as text and as binary, ping and pong, close with code and reason; the extension must be negotiated.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import WebSocket from 'ws';

const SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 16 << 20];
const [address, host, path, app] = process.argv.slice(2);

setTimeout(() => { throw new Error('no end after 60 s'); }, 60_000).unref();
const ca = process.env.CA && readFileSync(process.env.CA);
const ws = new WebSocket(`${ca ? 'wss' : 'ws'}://${address}${path}`, {
  ca,
  servername: host,
  headers: { Host: host },
  perMessageDeflate: { threshold: 0 },
});
await once(ws, 'open');
await ({ echo, sample })[app]();
console.log('done');

async function echo() {
  assert.match(ws.extensions, /^permessage-deflate/);
  for (const size of SIZES) {
    await roundTrip(randomBytes(size), true);
    await roundTrip(Buffer.from('ab'.repeat(size).slice(0, size)), false);
  }
  const pong = once(ws, 'pong');
  ws.ping('are you there');
  assert.equal((await pong)[0].toString(), 'are you there');
  const closed = once(ws, 'close');
  ws.close(4001, 'enough');
  const [code, reason] = await closed;
  assert.equal(code, 4001);
  assert.equal(reason.toString(), 'enough');
}

async function sample() {
  const answer = once(ws, 'message');
  ws.send('hello');
  assert.equal((await answer)[0].toString(), 'echo: hello');
  ws.close();
  await once(ws, 'close');
}

async function roundTrip(data, binary) {
  const answer = once(ws, 'message');
  ws.send(data, { binary });
  const [back, wasBinary] = await answer;
  assert.equal(wasBinary, binary);
  assert.ok(back.equals(data), `${data.length} bytes came back changed`);
}
