// Real coding agents against ds4 serve, in a network namespace without a way out.
//
//	node agents.mjs PATH-OF-DS4 [AGENT...]
//
// For each agent: a turn in which it reads a file with a tool, kill -9 of the server, a
// turn that goes on after its restart, and a turn with the agent's own prompt and tools.
// What is true is read off the server's counters and the tool's own log, not off what
// the agent says. Prints a table; the exit code is 0 if every agent did what it can.

import { mkdtempSync, mkdirSync, readFileSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { agents } from './setups.mjs';
import { Server } from './server.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const tries = 3; // of a turn: the agents sample, and the model is very small

const [binary, ...chosen] = process.argv.slice(2);
if (!binary) {
  console.error('usage: node agents.mjs PATH-OF-DS4 [AGENT...]');
  process.exit(2);
}
const names = chosen.length > 0 ? chosen : Object.keys(agents);
const rows = [];
let failed = false;
let port = 8000;

for (const name of names) {
  if (!agents[name]) {
    console.error(`no agent ${name}; there are ${Object.keys(agents).join(', ')}`);
    process.exit(2);
  }
  const dir = mkdtempSync(join(tmpdir(), `ds4-agent-${name}-`));
  const server = new Server(resolve(binary), dir, port++);
  try {
    rows.push(...await play(name, agents[name], server, dir));
  } catch (err) {
    rows.push({ agent: name, what: 'failed', note: String(err) });
    failed = true;
  } finally {
    await server.kill();
    if (process.env.KEEP) console.error(`kept: ${dir}`);
    else rmSync(dir, { recursive: true, force: true });
  }
}
print(rows);
process.exit(failed ? 1 : 0);

// play lets one agent do everything and returns the rows of the table.
async function play(name, agent, server, dir) {
  const world = {
    here, dir, url: server.url, home: join(dir, 'home'), work: join(dir, 'home', 'work'), log: join(dir, 'calls.log'),
    env: { PATH: process.env.PATH, HOME: join(dir, 'home'), TERM: 'dumb', NO_COLOR: '1', npm_config_offline: 'true' },
  };
  mkdirSync(world.work, { recursive: true });
  writeFileSync(join(world.work, 'main.go'), 'package main\n\nfunc main() { println("hello") }\n');
  await server.start();
  agent.prepare?.(world);
  const list = [];
  // report runs a turn until it is what it should be and adds a row about it.
  const report = async (what, turn, good) => {
    for (let attempt = 1; ; attempt++) {
      const before = await server.metrics();
      const called = calls(world);
      const begin = Date.now();
      const outcome = await turn();
      const after = await server.metrics();
      const delta = (metric) => after.get(metric) - before.get(metric);
      const row = {
        agent: name, version: agent.version, what, exit: outcome.code, seconds: ((Date.now() - begin) / 1000).toFixed(1),
        requests: delta(`ds4_http_requests_total{code="200",route="${agent.route}"}`),
        calls: calls(world) - called,
        evaluated: delta('ds4_prefill_tokens_total'), cached: delta('ds4_cached_tokens_total'), restored: delta('ds4_restored_tokens_total'),
        tries: attempt, note: outcome.note ?? '',
      };
      row.good = good(row);
      if (row.good || attempt === tries) {
        if (!row.good) row.note = `${row.note} ${outcome.output.slice(-400).replaceAll('\n', ' ')}`;
        list.push(row);
        failed ||= !row.good;
        return;
      }
    }
  };
  await report('calls a tool', () => agent.turn(world, 'Read the file main.go.', false),
    (r) => r.exit === 0 && r.calls >= 1 && r.requests >= 2);
  await server.kill();
  await server.start();
  await report('goes on after kill -9', () => agent.turn(world, 'Who are you?', true),
    (r) => r.exit === 0 && r.requests >= 1 && r.restored > 0);
  await report('its own prompt and tools', () => agent.own(world, 'Read the file main.go.'),
    (r) => r.requests >= 1);
  return list;
}

// calls counts what the tool itself wrote down.
function calls(world) {
  return existsSync(world.log) ? readFileSync(world.log, 'utf8').split('\n').length - 1 : 0;
}

function print(list) {
  const columns = ['agent', 'version', 'what', 'good', 'exit', 'requests', 'calls', 'evaluated', 'cached', 'restored', 'tries', 'seconds', 'note'];
  const cells = [columns, ...list.map((row) => columns.map((c) => String(row[c] ?? '')))];
  const widths = columns.map((_, i) => Math.max(...cells.map((row) => row[i].length)));
  for (const row of cells) console.log(row.map((cell, i) => cell.padEnd(i === columns.length - 1 ? 0 : widths[i])).join('  '));
}
