// Reads frames (four bytes of length, then a text) from standard input, gives each to an http server as a connection of its own, and
// writes one line of JSON for each: the requests that the server read to their end, and why it stopped. Bytes are written as the
// characters of the same number.
'use strict';
const http = require('http');
const fs = require('fs');
const { Duplex } = require('stream');

const server = http.createServer({ insecureHTTPParser: false, maxHeaderSize: 256 * 1024, requireHostHeader: true });
server.headersTimeout = server.requestTimeout = server.timeout = server.keepAliveTimeout = 0;

const record = (req, res) => {
  const seen = req.socket.seen;
  const chunks = [];
  req.on('data', (c) => chunks.push(c));
  req.on('end', () => {
    seen.requests.push({ method: req.method, url: req.url, headers: req.rawHeaders, body: Buffer.concat(chunks).toString('latin1') });
    res.end();
  });
};
server.on('request', record);
server.on('checkContinue', record);
server.on('checkExpectation', record);
server.on('connect', (req, socket) => { socket.seen.error = 'CONNECT'; socket.destroy(); });
server.on('clientError', (err, socket) => { socket.seen.error = err.code || String(err); socket.destroy(); });

// Connection gives the text, then the end, and forgets what is written to it.
class Connection extends Duplex {
  constructor(text) { super({ allowHalfOpen: true }); this.text = text; this.seen = { requests: [] }; }
  _read() { if (this.text) { this.push(this.text); this.text = null; } this.push(null); }
  _write(chunk, encoding, done) { done(); }
  setTimeout() { return this; }
  setNoDelay() { return this; }
  setKeepAlive() { return this; }
}

const input = fs.readFileSync(0);
let at = 0;
const next = () => {
  if (at >= input.length) return;
  const n = input.readUInt32BE(at);
  const conn = new Connection(input.subarray(at + 4, at + 4 + n));
  at += 4 + n;
  conn.on('error', (err) => { conn.seen.error = err.code || String(err); });
  conn.on('close', () => {
    fs.writeSync(1, JSON.stringify(conn.seen) + '\n');
    setImmediate(next);
  });
  server.emit('connection', conn);
};
next();
