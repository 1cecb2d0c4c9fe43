// The answers of a Model Context Protocol server whose only tool reads a file.

import { readFileSync } from 'node:fs';

// answer returns the result of one request; called hears of each call of the tool.
export function answer({ method, params }, name, called) {
  switch (method) {
    case 'initialize':
      return { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'files', version: '1' } };
    case 'tools/list':
      return {
        tools: [{
          name, description: 'Read a file',
          inputSchema: { type: 'object', properties: { path: { type: 'string' } }, required: ['path'] },
          annotations: { readOnlyHint: true, destructiveHint: false, openWorldHint: false },
        }],
      };
    case 'tools/call':
      called(params.arguments.path);
      try {
        return { content: [{ type: 'text', text: readFileSync(params.arguments.path, 'utf8') }] };
      } catch (err) {
        return { content: [{ type: 'text', text: String(err) }], isError: true };
      }
  }
  return {};
}
