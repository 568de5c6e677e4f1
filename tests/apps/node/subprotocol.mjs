// node subprotocol.mjs ADDRESS HOST OFFERED CHOSEN: offers subprotocols, one of them a token, to an app that tells what it
// was told. Over TLS where CA names a file of authorities.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import WebSocket from 'ws';

const [address, host, offered, chosen] = process.argv.slice(2);
setTimeout(() => { throw new Error('no end after 60 s'); }, 60_000).unref();
const ca = process.env.CA && readFileSync(process.env.CA);
const connect = (protocols) => new WebSocket(`${ca ? 'wss' : 'ws'}://${address}/ws`, protocols, {
  ca,
  servername: host,
  headers: { Host: host },
});

// The library itself fails where what it offered is not answered.
const ws = connect(offered.split(','));
const [told] = await once(ws, 'message');
assert.equal(ws.protocol, chosen);
assert.match(told.toString(), /X-Postern-Principal/i);
assert.doesNotMatch(told.toString(), /bearer/i);
ws.close();
await once(ws, 'close');

const [, refused] = await once(connect(['chat', 'bearer.wrong']), 'unexpected-response');
assert.equal(refused.statusCode, 401);
console.log('done');
process.exit();
