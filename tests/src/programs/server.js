// An HTTPS server: server.js CERTIFICATE KEY. Prints its port.
const https = require('node:https');
const { readFileSync } = require('node:fs');

const [certificate, key] = process.argv.slice(-2);
const options = { cert: readFileSync(certificate), key: readFileSync(key) };
const server = https.createServer(options, (request, response) => {
  response.writeHead(200, { 'Content-Length': 3, Connection: 'close' });
  response.end('ok\n');
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
