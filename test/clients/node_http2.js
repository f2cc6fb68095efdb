// A client on Node's http2 module. Arguments: a scenario, the origin, the authority's file. Each line of standard output is a result as JSON,
// each line of standard input lets the scenario go on. The origin's host is always this machine.
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs');
const http2 = require('node:http2');
const readline = require('node:readline');
const { Readable } = require('node:stream');
const { pipeline } = require('node:stream/promises');

const [scenario, origin, authority] = process.argv.slice(2);
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');
const go = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

function connect() {
  const session = http2.connect(origin, {
    ca: fs.readFileSync(authority),
    lookup: (_, options, done) => (options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)),
  });
  // Without a listener an error of the session, which its streams report too, would end the process.
  session.on('error', () => {});
  return session;
}

// answer collects what becomes of a stream.
function answer(stream) {
  const sum = crypto.createHash('sha256');
  const got = { status: 0, bytes: 0, trailers: null };
  return new Promise((resolve) => {
    stream.on('response', (fields) => { got.status = fields[':status']; });
    stream.on('trailers', (fields) => { got.trailers = { ...fields }; });
    stream.on('data', (piece) => { got.bytes += piece.length; sum.update(piece); if (got.bytes < 1000) got.text = (got.text ?? '') + piece; });
    stream.on('error', (error) => { got.error = error.code ?? String(error); });
    stream.on('close', () => resolve({ ...got, digest: sum.digest('hex'), code: stream.rstCode }));
  });
}

const get = (session, path, fields) => answer(session.request({ ':path': path, ...fields }));

const scenarios = {
  // More streams at a time than one connection may have: the module holds back the rest until there is room.
  async streams(session) {
    const all = [];
    for (let i = 0; i < 250; i++) {
      all.push(get(session, '/content', { range: `bytes=${i * 1000}-${i * 1000 + 49999}` }));
    }
    for (const a of await Promise.all(all)) say(a);
  },

  // A body that is made as it is taken: while the Pod does not read, little of it is.
  async backpressure(session) {
    const piece = Buffer.alloc(64 << 10, 'x');
    const total = 1024;
    let made = 0;
    const body = new Readable({ read() { this.push(made++ < total ? piece : null); } });
    const stream = session.request({ ':path': '/deaf', ':method': 'POST' });
    const result = answer(stream);
    const sent = pipeline(body, stream);
    await go.next();
    for (let before = -1; before !== made;) {
      before = made;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    say({ bytes: made * piece.length });
    await Promise.all([sent, result]);
    say(await result);
  },

  async trailers(session) {
    const stream = session.request({ ':path': '/digest', ':method': 'POST', trailer: 'x-end' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-end': 'of it' }));
    const result = answer(stream);
    stream.end('a body with trailers');
    say(await result);
    say(await get(session, '/trailers'));
  },

  // Streams that are canceled in each phase of a request; the connection lives on.
  async cancel(session) {
    for (const path of ['/hang', '/hang?head=1', '/sink']) {
      const stream = session.request({ ':path': path, ':method': path === '/sink' ? 'POST' : 'GET' });
      const result = answer(stream);
      if (path === '/sink') stream.write(Buffer.alloc(1 << 20, 'x'));
      await go.next();
      stream.close(http2.constants.NGHTTP2_CANCEL);
      say(await result);
    }
    say(await get(session, '/hello'));
  },

  // The server goes away: it says so, finishes what is under way, and the next connection reaches the new one.
  async restart(session) {
    session.on('goaway', (code) => say({ goaway: true, code }));
    const closed = new Promise((resolve) => session.on('close', resolve));
    const all = [];
    for (let i = 0; i < 20; i++) all.push(get(session, '/events?n=1'));
    for (const a of await Promise.all(all)) say(a);
    await closed;
    await go.next();
    const next = connect();
    say(await get(next, '/hello'));
    next.close();
  },
};

const session = connect();
scenarios[scenario](session).then(() => {
  session.close();
  go.return();
  process.stdin.destroy();
});
