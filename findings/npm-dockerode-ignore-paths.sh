#!/usr/bin/env bash
# What:        a build context with a .dockerignore, sent by dockerode's buildImage({context, src}) to a server that
#              lists what it gets
# Behaviour:   below what `src` names, the patterns are held against paths that begin with the context's own
#              folder. One that begins with `**/` works; one with a path below the context, as src/cache,
#              matches nothing, and the folder is sent. Docker sends the Dockerfile whatever the patterns say;
#              with `*` dockerode leaves it out, so that nothing can be built.
# Version:     dockerode 5.0.1
# Output seen: **/cache: Dockerfile src src/app   src/cache: Dockerfile src src/app src/cache src/cache/old   *: nothing
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
npm install --silent --no-audit --no-fund --prefix . dockerode@5.0.1 >/dev/null || exit 3
mkdir -p context/src/cache; echo FROM scratch >context/Dockerfile; echo text >context/src/app; echo text >context/src/cache/old
node -e "
const Docker = require('dockerode'), http = require('http'), { gunzipSync } = require('zlib'), { execFileSync } = require('child_process');
const fs = require('fs');
let sent;
const server = http.createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  sent = execFileSync('tar', ['-tf', '-'], { input: gunzipSync(Buffer.concat(parts)) }).toString();
  response.end('{}');
});
server.listen(0, '127.0.0.1', async () => {
  const docker = new Docker({ host: '127.0.0.1', port: server.address().port });
  const seen = [];
  for (const pattern of ['**/cache', 'src/cache', '*']) {
    fs.writeFileSync('context/.dockerignore', pattern + '\n');
    const answer = await docker.buildImage({ context: 'context', src: ['Dockerfile', 'src'] }, { t: 'x' });
    await new Promise(done => answer.on('end', done).resume());
    const names = sent.split('\n').filter(name => name).map(name => name.replace(/\/$/, '')).sort();
    seen.push(pattern + ': ' + (names.join(' ') || 'nothing'));
  }
  server.close();
  console.log(seen.join('   '));
  if (seen.join('   ') !== '**/cache: Dockerfile src src/app   src/cache: Dockerfile src src/app src/cache src/cache/old   *: nothing') {
    console.error('the behaviour changed'); process.exit(1);
  }
});"
