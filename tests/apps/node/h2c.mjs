// HTTP/2 by prior knowledge, HTTP/1.1 and WebSockets on one port: the first bytes of a connection tell which.
// STREAMS is how many streams a connection may have at once.
import { createServer as createHttp1 } from 'node:http';
import { constants, createServer as createHttp2 } from 'node:http2';
import { createServer } from 'node:net';
import { WebSocketServer } from 'ws';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const maxConcurrentStreams = Number(process.env.STREAMS ?? 250);

const http1 = createHttp1((request, response) => response.end(`HTTP/${request.httpVersion}`));
// Node refuses streams while it has too much to send: clients that do not read are of interest here.
const http2 = createHttp2({ settings: { maxConcurrentStreams }, maxSessionMemory: 1000 });
const wss = new WebSocketServer({ server: http1 });
wss.on('connection', ws => ws.on('message', (data, binary) => ws.send(data, { binary })));

// What has happened on all connections so far, for /stats.
const stats = { sessions: 0, open: 0, streams: 0, most: 0, bytes: 0, resets: [] };
let refusals = 0;
let arriving;

http2.on('session', session => {
  stats.sessions += 1;
  stats.open += 1;
  session.streams = 0;
  session.raw = arriving;
  session.on('close', () => (stats.open -= 1));
});

http2.on('stream', (stream, headers) => {
  const session = stream.session;
  session.streams += 1;
  stats.streams += 1;
  stats.most = Math.max(stats.most, session.streams);
  stream.on('close', () => {
    session.streams -= 1;
    stats.streams -= 1;
    if (stream.rstCode !== constants.NGHTTP2_NO_ERROR) stats.resets.push(stream.rstCode);
  });
  stream.on('error', () => {});
  const url = new URL(headers[':path'], 'http://app');
  const answer = answers[url.pathname] ?? answers['/'];
  answer(stream, headers, url.searchParams);
});

const say = (stream, body, headers = {}) => stream.respond({ ':status': 200, ...headers }) ?? stream.end(body);

const answers = {
  '/': (stream, headers) => say(stream, JSON.stringify(headers)),
  '/stats': stream => say(stream, JSON.stringify(stats)),
  // The body and its trailers.
  '/echo': stream => {
    let trailers = {};
    stream.on('trailers', fields => (trailers = fields));
    stream.respond({ ':status': 200, trailer: 'x-sum, x-told' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ ...trailers, 'x-sum': 'whole' }));
    stream.pipe(stream);
  },
  // As gRPC answers an error: trailers alone, in the head.
  '/trailers-only': stream => stream.respond({ ':status': 200, 'grpc-status': '12' }, { endStream: true }),
  '/zeros': (stream, _headers, query) => say(stream, Buffer.alloc(Number(query.get('bytes')))),
  '/length': stream => say(stream, 'four', { 'content-length': 4 }),
  // So many milliseconds later.
  '/later': (stream, _headers, query) => setTimeout(() => say(stream, 'late'), Number(query.get('ms'))),
  '/never': () => {},
  '/pause': stream => stream.respond({ ':status': 200 }) ?? stream.write('half'),
  // Without a look at the body.
  '/early': stream => stream.respond({ ':status': 413 }, { endStream: true }),
  '/accept': stream => {
    stream.additionalHeaders({ ':status': 100 });
    stream.once('data', data => say(stream, data));
  },
  '/reset': stream => stream.close(constants.NGHTTP2_INTERNAL_ERROR),
  // As often as it was asked for, for the process, perhaps once that many bytes have come. Then the body comes back.
  '/refuse': (stream, _headers, query) => {
    refusals += 1;
    if (refusals > Number(query.get('times'))) {
      stream.respond({ ':status': 200 });
      stream.write('taken ');
      return stream.pipe(stream);
    }
    let bytes = Number(query.get('after'));
    const refuse = () => stream.close(constants.NGHTTP2_REFUSED_STREAM);
    if (bytes === 0) return refuse();
    stream.on('data', data => (bytes -= data.length) > 0 || refuse());
  },
  // This one is answered in a while, nothing else is taken.
  '/goaway': stream => {
    stream.session.goaway(constants.NGHTTP2_NO_ERROR, stream.id);
    setTimeout(() => say(stream, 'last'), 200);
  },
  // The first connection that is asked goes away without this request.
  '/untaken': stream => {
    if (stats.untaken) return say(stream, 'taken');
    stats.untaken = true;
    stream.session.goaway(constants.NGHTTP2_NO_ERROR, 1);
  },
  '/destroy': stream => stream.session.raw.destroy(),
};

const server = createServer(socket => {
  socket.on('error', () => {});
  socket.once('readable', () => {
    const first = socket.read();
    if (first === null) return;
    socket.unshift(first);
    arriving = socket;
    const peer = PREFACE.subarray(0, first.length).equals(first.subarray(0, PREFACE.length)) ? http2 : http1;
    peer.emit('connection', socket);
  });
});

server.listen(Number(process.env.PORT ?? 8080), process.env.HOST, () => console.log(`listening ${server.address().port}`));
