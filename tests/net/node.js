// node.js - Node's own HTTP server, as a second opinion: answers 200 to whatever it takes.
const http = require('http');
const server = http.createServer((q, r) => {
  q.on('data', () => {});
  q.on('end', () => { r.writeHead(200, {'Content-Length': 0}); r.end(); });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
