// One ds4 serve on a fixed port of this network namespace, and what its counters say.

import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const patience = 120_000;

export class Server {
  constructor(binary, dir, port) {
    Object.assign(this, { binary, dir, port, url: `http://127.0.0.1:${port}`, log: join(dir, 'server.log'), starts: 0 });
  }

  async start() {
    const log = openSync(this.log, 'a');
    this.process = spawn(this.binary, [
      'serve', '--port', String(this.port), '--ctx', '65536', '--sessions', '2',
      // Conversations of the little model are short; segments are as short as they get.
      '--kv-disk-dir', join(this.dir, 'kv'), '--kv-cache-min-tokens', '128', '--kv-segment-tokens', '128',
    ], { stdio: ['ignore', 'ignore', log], env: { ...process.env, DS4_LOCK_FILE: join(this.dir, 'lock') } });
    closeSync(log);
    this.starts++;
    const end = Date.now() + patience;
    while ((readFileSync(this.log, 'utf8').match(/listening on http/g) ?? []).length < this.starts) {
      if (this.process.exitCode !== null || Date.now() > end) throw new Error(`the server did not start:\n${readFileSync(this.log, 'utf8')}`);
      await new Promise((done) => setTimeout(done, 20));
    }
  }

  // kill is what the kernel does to a process that nobody asked.
  async kill() {
    if (!this.process || this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = new Promise((done) => this.process.once('exit', done));
    this.process.kill('SIGKILL');
    await ended;
  }

  // metrics reads all counters; sum adds up those of a name whatever their labels.
  async metrics() {
    const page = await (await fetch(`${this.url}/metrics`)).text();
    const values = new Map();
    for (const line of page.split('\n')) {
      const match = /^([a-z0-9_]+(?:\{[^}]*\})?) (\S+)$/.exec(line);
      if (match) values.set(match[1], Number(match[2]));
    }
    return { get: (name) => values.get(name) ?? 0 };
  }
}
