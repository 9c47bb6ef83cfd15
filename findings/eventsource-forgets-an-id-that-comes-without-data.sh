#!/usr/bin/env bash
# eventsource 4.1.1 (npm) forgets an id that comes without data, and reconnects from an older place.
#
# A server that filters for its readers tells them how far it has looked by an id alone (`id: 900` and an empty line): the
# standard sets the last event id before it looks whether there is data, and dispatches nothing. undici does so. This
# package drops the id with the empty block: after a cut its `Last-Event-ID` is that of the last event with data, which may
# be hours old, and the server begins from there each time. In the same way `lastEventId` of an event that has no id of its
# own is "" instead of the last one. What helps: data with each id, as in a named event of progress.
#
# Needs Node 20.18.1 or newer and npm. Installs pinned packages into a temporary folder. Only a server on 127.0.0.1 is
# reached. Exits with 0 while the behaviour is as described.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts undici@7.30.2 eventsource@4.1.1

cat > run.mjs <<'EOF'
import { readFileSync } from 'node:fs';
import http from 'node:http';

async function follow(name) {
  const { EventSource } = await import(name);
  const lastEventIds = [];
  let resumedFrom;
  const server = http.createServer((request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    if (request.headers['last-event-id']) {
      resumedFrom(request.headers['last-event-id']);
      response.end();
    } else {
      response.end('retry: 200\n\nid: 7\ndata: has an id\n\ndata: has none\n\nid: 900\n\n');
    }
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const header = await new Promise((resolve) => {
    resumedFrom = resolve;
    const source = new EventSource(`http://127.0.0.1:${server.address().port}/`);
    source.onmessage = (message) => lastEventIds.push(message.lastEventId);
  });
  return { lastEventIds, header };
}

setInterval(() => {}, 1000);  // undici alone does not keep Node alive between connections
const seen = {};
for (const name of ['eventsource', 'undici']) {
  const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`));
  seen[name] = await follow(name);
  console.log(`${name} ${version}: lastEventId of the two events: ${JSON.stringify(seen[name].lastEventIds)}; `
    + `Last-Event-ID sent after the cut: ${seen[name].header}`);
}
const expected = {
  eventsource: { lastEventIds: ['7', ''], header: '7' },
  undici: { lastEventIds: ['7', '7'], header: '900' },
};
const asDescribed = JSON.stringify(seen) === JSON.stringify(expected);
console.log(asDescribed ? 'As described.' : 'Changed.');
process.exit(asDescribed ? 0 : 1);
EOF
node --no-warnings run.mjs

# Output seen:
#   eventsource 4.1.1: lastEventId of the two events: ["7",""]; Last-Event-ID sent after the cut: 7
#   undici 7.30.2: lastEventId of the two events: ["7","7"]; Last-Event-ID sent after the cut: 900
#   As described.
