// A Model Context Protocol server with one tool that reads a file. The embedded model
// was trained to call a tool of the name read_file with an argument named path; agents
// put the server's name in front of the tool's, so the name of the tool is an argument:
//
//	node mcp.mjs TOOL LOG
//
// Each call is one line of LOG.

import { appendFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { answer } from './tool.mjs';

const [name, log] = process.argv.slice(2);

createInterface({ input: process.stdin }).on('line', (line) => {
  const request = JSON.parse(line);
  const result = answer(request, name, (path) => appendFileSync(log, `${path}\n`));
  if (request.id !== undefined) process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id: request.id, result })}\n`);
});
