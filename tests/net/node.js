// node.js - Node's own HTTP server, as a second opinion: answers 200 to whatever it takes as a whole
// request. It answers after it has parsed all bytes at hand, and when some of them are no HTTP drops
// what it had not answered yet; so those answers are given here.
const http = require('http');
const waiting = new Map(); // socket -> requests without an answer

const server = http.createServer((q, r) => {
  if (!waiting.has(q.socket)) waiting.set(q.socket, new Set());
  waiting.get(q.socket).add(q);
  q.on('data', () => {});
  q.on('end', () => {
    waiting.get(q.socket)?.delete(q);
    r.writeHead(200, {'Content-Length': 0});
    r.end();
  });
});
server.on('clientError', (_, socket) => {
  const whole = [...waiting.get(socket) ?? []].filter((q) => q.complete);
  waiting.delete(socket);
  if (!socket.writable) return;
  socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'.repeat(whole.length) +
             'HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
});
server.on('connection', (socket) => socket.on('close', () => waiting.delete(socket)));
server.httpAllowHalfOpen = true; // who has sent all may still read
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
