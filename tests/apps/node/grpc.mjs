// gRPC as gRPC's own library speaks it. Without arguments an app; with the address of Postern and a name to call by, a
// client of that app that goes through every kind of call.
import assert from 'node:assert/strict';
import grpc from '@grpc/grpc-js';

const method = (name, requestStream, responseStream) => ({
  path: `/postern.test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: bytes => bytes,
  requestDeserialize: bytes => bytes,
  responseSerialize: bytes => bytes,
  responseDeserialize: bytes => bytes,
});

const service = {
  unary: method('Unary', false, false),
  up: method('Up', true, false),
  down: method('Down', false, true),
  both: method('Both', true, true),
  wait: method('Wait', false, true),
  cancelled: method('Cancelled', false, false),
};

const LIMITS = { 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 };

let cancelled = 0;

const app = {
  unary(call, reply) {
    if (call.request.length === 0) {
      const details = new grpc.Metadata();
      details.set('why-bin', Buffer.from([0, 255]));
      return reply({ code: grpc.status.INVALID_ARGUMENT, details: 'nothing said', metadata: details });
    }
    const last = new grpc.Metadata();
    last.set('told', call.metadata.get('tell')[0] ?? 'nothing');
    reply(null, call.request, last);
  },
  up(call, reply) {
    const parts = [];
    call.on('data', part => parts.push(part));
    call.on('end', () => reply(null, Buffer.concat(parts)));
  },
  down(call) {
    for (let i = 0; i < 100; i += 1) call.write(Buffer.concat([Buffer.from([i]), call.request]));
    call.end();
  },
  both(call) {
    call.on('data', part => call.write(part));
    call.on('end', () => call.end());
  },
  wait(call) {
    call.on('cancelled', () => (cancelled += 1));
    call.write(Buffer.from('waiting'));
  },
  cancelled: (_call, reply) => reply(null, Buffer.from([cancelled])),
};

function serve() {
  const server = new grpc.Server(LIMITS);
  server.addService(service, app);
  const address = `${process.env.HOST ?? '127.0.0.1'}:${process.env.PORT ?? 8080}`;
  server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    console.log(`listening ${port}`);
  });
}

async function use(address, authority) {
  const Client = grpc.makeGenericClientConstructor(service, 'Echo');
  const options = { ...LIMITS, 'grpc.default_authority': authority };
  const client = new Client(address, grpc.credentials.createInsecure(), options);
  const asked = (name, message, metadata = new grpc.Metadata()) =>
    new Promise((resolve, reject) => {
      let trailers;
      const call = client[name](message, metadata, (error, reply) => {
        if (error) reject(error);
        else setImmediate(() => resolve({ reply, trailers }));
      });
      call.on('status', status => (trailers = status.metadata));
    });

  const tell = new grpc.Metadata();
  tell.set('tell', 'this');
  for (const size of [1, 100_000, 8 << 20]) {
    const { reply, trailers } = await asked('unary', Buffer.alloc(size, 7), tell);
    assert.ok(reply.equals(Buffer.alloc(size, 7)));
    assert.deepEqual(trailers.get('told'), ['this']);
  }

  await assert.rejects(asked('unary', Buffer.alloc(0)), error => {
    assert.equal(error.code, grpc.status.INVALID_ARGUMENT);
    assert.equal(error.details, 'nothing said');
    assert.deepEqual(error.metadata.get('why-bin'), [Buffer.from([0, 255])]);
    return true;
  });

  const many = await Promise.all(Array.from({ length: 200 }, (_, i) => asked('unary', Buffer.from([i]))));
  many.forEach(({ reply }, i) => assert.equal(reply[0], i));

  const whole = await new Promise((resolve, reject) => {
    const call = client.up((error, reply) => (error ? reject(error) : resolve(reply)));
    for (let i = 0; i < 100; i += 1) call.write(Buffer.alloc(10_000, i));
    call.end();
  });
  assert.equal(whole.length, 1_000_000);
  assert.equal(whole[999_999], 99);

  const parts = await client.down(Buffer.alloc(10_000)).toArray();
  assert.deepEqual(parts.map(part => part[0]), Array.from({ length: 100 }, (_, i) => i));

  // Each message waits for the echo of the one before.
  const talk = client.both();
  const echoes = talk[Symbol.asyncIterator]();
  for (let i = 0; i < 20; i += 1) {
    talk.write(Buffer.from([i]));
    assert.equal((await echoes.next()).value[0], i);
  }
  talk.end();
  assert.ok((await echoes.next()).done);

  // What the client gives up, the app is told of.
  const waiting = client.wait(Buffer.alloc(0));
  await new Promise(resolve => waiting.once('data', resolve));
  waiting.on('error', error => assert.equal(error.code, grpc.status.CANCELLED));
  waiting.cancel();
  while ((await asked('cancelled', Buffer.alloc(0))).reply[0] !== 1) await new Promise(resolve => setTimeout(resolve, 10));

  client.close();
  console.log('done');
}

const [address, authority] = process.argv.slice(2);
if (address === undefined) serve();
else {
  setTimeout(() => process.exit(2), 15_000).unref();
  await use(address, authority);
}
