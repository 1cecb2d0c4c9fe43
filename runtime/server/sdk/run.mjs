// Runs the tests of this folder against a server of their own:
//
//	node run.mjs PATH-OF-DS4 [TEST-FILE...]
//
// It starts the server on a free port with the embedded model and a cache directory
// that is removed at the end, runs one test file after the other, and ends the server.
// The exit code is 0 only if every file passed and the server ended as it should.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, openSync, closeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const patience = 60_000; // of start and end, on a machine that is busy with other things

const [binary, ...chosen] = process.argv.slice(2);
if (!binary) {
  console.error('usage: node run.mjs PATH-OF-DS4 [TEST-FILE...]');
  process.exit(2);
}
const files = chosen.length > 0
  ? chosen.map((f) => resolve(f))
  : readdirSync(join(here, 'test')).filter((f) => f.endsWith('.test.mjs')).sort().map((f) => join(here, 'test', f));

const scratch = mkdtempSync(join(tmpdir(), 'ds4-sdk-'));
const logFile = join(scratch, 'server.log');
let server;
let failed = false;

process.on('exit', () => {
  if (server && server.exitCode === null && server.signalCode === null) server.kill('SIGKILL');
  rmSync(scratch, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(130));

try {
  const url = await start();
  for (const file of files) {
    const code = await test(file, url);
    failed ||= code !== 0;
  }
  await stop();
} catch (err) {
  console.error(String(err));
  failed = true;
}
if (failed) console.error(`server log:\n${readFileSync(logFile, 'utf8')}`);
process.exit(failed ? 1 : 0);

// start resolves to the URL that the server says it listens on.
async function start() {
  const log = openSync(logFile, 'w');
  server = spawn(resolve(binary), [
    'serve', '--port', '0', '--ctx', '8192', '--sessions', '3', '--kv-disk-dir', join(scratch, 'kv'),
  ], { stdio: ['ignore', 'ignore', log], env: { ...process.env, DS4_LOCK_FILE: join(scratch, 'lock') } });
  closeSync(log);
  const end = Date.now() + patience;
  while (Date.now() < end) {
    const match = /listening on (http:\S+)/.exec(readFileSync(logFile, 'utf8'));
    if (match) return match[1];
    if (server.exitCode !== null) throw new Error(`the server ended with code ${server.exitCode}`);
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error('the server did not start in time');
}

// stop ends the server as a user would and judges how it went.
async function stop() {
  const ended = new Promise((done) => server.once('exit', (code) => done(code)));
  server.kill('SIGTERM');
  const timer = setTimeout(() => server.kill('SIGKILL'), patience);
  const code = await ended;
  clearTimeout(timer);
  if (code !== 0) throw new Error(`the server ended with code ${code} after SIGTERM`);
}

function test(file, url) {
  return new Promise((done) => {
    const child = spawn(process.execPath, ['--test', file], {
      stdio: 'inherit', env: { ...process.env, DS4_URL: url },
    });
    child.once('exit', (code) => done(code ?? 1));
  });
}
