#!/usr/bin/env bash
# undici 7.30.2: a program that only listens with EventSource ends, with status 0, when the server closes the stream.
#
# An EventSource reconnects by itself after a moment (3 s, or what the server's `retry:` says). undici waits with a timer
# that does not keep Node alive. As long as the stream is open its socket does; when the server restarts, nothing is left,
# and Node ends as if the work were done: no exception, no line, status 0, so that a supervisor that restarts only what has
# failed leaves it. A web server or database connection in the same process hides it. Node's built-in EventSource is this
# code. The package eventsource 4.1.1 stays and reconnects. What helps: something that keeps the process alive, such as an
# interval.
#
# Needs Node 20.18.1 or newer and npm. Installs pinned packages into a temporary folder. Only a server on 127.0.0.1 is
# reached. Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts undici@7.30.2 eventsource@4.1.1

cat > listen.mjs <<'EOF'
const { EventSource } = await import(process.argv[2]);
const source = new EventSource(process.argv[3]);
source.onmessage = (message) => {
  if (message.lastEventId === '2') process.exit(9);  // has reconnected
};
EOF
cat > run.mjs <<'EOF'
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import http from 'node:http';

let connections = 0;
const server = http.createServer((request, response) => {
  connections += 1;
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.end(`retry: 300\nid: ${connections}\ndata: {}\n\n`);  // one event, then the server closes the stream
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const listen = (name) => new Promise((ended) => {
  connections = 0;
  const program = spawn('node', ['--no-warnings', 'listen.mjs', name, `http://127.0.0.1:${server.address().port}/`]);
  program.on('exit', (status) => ended({ status, connections }));
});
const seen = {};
console.log('Node', process.version);
for (const name of ['undici', 'eventsource']) {
  const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`));
  seen[name] = await listen(name);
  console.log(`  ${name} ${version}: connections ${seen[name].connections}, status ${seen[name].status}`);
}
const asDescribed = seen.undici.status === 0 && seen.undici.connections === 1
  && seen.eventsource.status === 9 && seen.eventsource.connections === 2;
console.log(asDescribed ? 'As described: undici let Node end before it connected again.' : 'Changed.');
process.exit(asDescribed ? 0 : 1);
EOF
node run.mjs

# Output seen:
#   Node v20.20.2
#     undici 7.30.2: connections 1, status 0
#     eventsource 4.1.1: connections 2, status 9
#   As described: undici let Node end before it connected again.
