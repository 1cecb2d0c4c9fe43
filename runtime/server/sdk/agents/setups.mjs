// How each agent is set up for the embedded model, and how it is run.
//
// The model has 21 million parameters. It calls the tools that it was trained with,
// by the names that it was trained with: read_file with a path is one of them. It does
// not read schemas of others. So besides a turn with its own prompt and tools, each
// agent gets a short prompt and a tool of that name.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { readFileSync, writeFileSync, mkdirSync, appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { answer } from './tool.mjs';

const patience = 240_000;
const prompt = 'You are ds4-tiny.';

function version(here, name) {
  return JSON.parse(readFileSync(join(here, 'node_modules', name, 'package.json'), 'utf8')).version;
}

const here = new URL('.', import.meta.url).pathname;

function bin(name) { return join(here, 'node_modules', '.bin', name); }

// run starts a program, collects what it prints, and kills it if it does not end. talk
// hears every line of its output and may answer, begin speaks first.
function run(world, command, args, env = {}, talk = null, begin = null) {
  return new Promise((done) => {
    const child = spawn(command, args, {
      cwd: world.work, env: { ...world.env, ...env }, stdio: [talk ? 'pipe' : 'ignore', 'pipe', 'pipe'], detached: true,
    });
    let output = '';
    child.stderr.on('data', (data) => { output += data; });
    createInterface({ input: child.stdout }).on('line', (line) => { output += `${line}\n`; talk?.(line, child); });
    begin?.(child);
    const end = (signal) => { try { process.kill(-child.pid, signal); } catch { /* it has ended */ } };
    const timer = setTimeout(() => end('SIGKILL'), patience);
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      end('SIGKILL'); // what it left running
      appendFileSync(join(world.dir, 'agent.log'), `$ ${command} ${args.join(' ')}\n${output}\n`);
      done({ code: code ?? signal, output });
    });
  });
}

const codex = {
  version: version(here, '@openai/codex'),
  route: '/v1/responses',
  prepare(world) {
    mkdirSync(join(world.home, '.codex'), { recursive: true });
    writeFileSync(join(world.home, 'instructions.md'), prompt);
    const provider = `
model = "ds4-tiny"
model_provider = "ds4"
[model_providers.ds4]
name = "ds4"
base_url = "${world.url}/v1"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
`;
    writeFileSync(join(world.home, '.codex', 'config.toml'), provider);
    mkdirSync(join(world.home, '.codex-small'), { recursive: true });
    writeFileSync(join(world.home, '.codex-small', 'config.toml'), `
model_instructions_file = "${join(world.home, 'instructions.md')}"
model_reasoning_effort = "none"
include_permissions_instructions = false
include_environment_context = false
include_apps_instructions = false
web_search = "disabled"
${provider}
[mcp_servers.files]
command = "${process.execPath}"
args = ["${join(world.here, 'mcp.mjs')}", "read_file", "${world.log}"]
default_tools_approval_mode = "approve"
[features]
shell_tool = false
unified_exec = false
goals = false
[agents]
enabled = false
[skills]
include_instructions = false
`);
  },
  turn(world, text, again) {
    const args = ['exec', ...(again ? ['resume', '--last'] : []), '--skip-git-repo-check', text];
    return run(world, bin('codex'), args, { CODEX_HOME: join(world.home, '.codex-small') });
  },
  own(world, text) {
    return run(world, bin('codex'), ['exec', '--skip-git-repo-check', text], { CODEX_HOME: join(world.home, '.codex') });
  },
};

// Claude Code puts "mcp__files__" in front of the names of tools, except for those of a
// program that runs it through its SDK; so this speaks the SDK's protocol: one JSON
// object a line on both sides, requests to the tool among them.
const claude = {
  version: version(here, '@anthropic-ai/claude-code'),
  route: '/v1/messages',
  env(world) {
    return {
      ANTHROPIC_BASE_URL: world.url, ANTHROPIC_API_KEY: 'none', DISABLE_TELEMETRY: '1', DISABLE_AUTOUPDATER: '1',
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1', CLAUDE_CODE_MAX_RETRIES: '0',
    };
  },
  turn(world, text, again) {
    const args = [
      '-p', '--bare', '--input-format', 'stream-json', '--output-format', 'stream-json', '--verbose',
      '--system-prompt', prompt, '--tools', '', '--allowedTools', 'mcp__files__read_file',
      '--strict-mcp-config', '--mcp-config', '{"mcpServers":{"files":{"type":"sdk","name":"files"}}}',
      ...(again ? ['--continue'] : []),
    ];
    const env = { ...this.env(world), CLAUDE_AGENT_SDK_MCP_NO_PREFIX: '1', CLAUDE_CODE_ENTRYPOINT: 'sdk-ts', MAX_THINKING_TOKENS: '0' };
    // What is said first gets a reminder of today's date in front, which the model takes
    // for something to remember.
    const words = again ? [text] : ['Who are you?', text];
    return run(world, bin('claude'), args, env, (line, child) => {
      const send = (message) => child.stdin.write(`${JSON.stringify(message)}\n`);
      const message = JSON.parse(line);
      if (message.type === 'control_response' || message.type === 'result') {
        const content = words.shift();
        if (content === undefined) child.stdin.end();
        else send({ type: 'user', message: { role: 'user', content }, parent_tool_use_id: null, session_id: '' });
      }
      if (message.type === 'control_request' && message.request.subtype === 'mcp_message') {
        const { id = 0, ...request } = message.request.message;
        const result = answer(request, 'read_file', (path) => appendFileSync(world.log, `${path}\n`));
        send({
          type: 'control_response',
          response: { subtype: 'success', request_id: message.request_id, response: { mcp_response: { jsonrpc: '2.0', id, result } } },
        });
      }
    }, (child) => child.stdin.write(`${JSON.stringify({
      type: 'control_request', request_id: 'begin', request: { subtype: 'initialize', sdkMcpServers: ['files'] },
    })}\n`));
  },
  own(world, text) {
    return run(world, bin('claude'), ['-p', text, '--output-format', 'json'], this.env(world));
  },
};

// opencode names the tools of a server SERVER_TOOL, so the server is called read.
const opencode = {
  version: version(here, 'opencode-ai'),
  route: '/v1/chat/completions',
  prepare(world) {
    writeFileSync(join(world.work, 'opencode.json'), JSON.stringify({
      $schema: 'https://opencode.ai/config.json',
      provider: {
        ds4: {
          npm: '@ai-sdk/openai-compatible', name: 'ds4', options: { baseURL: `${world.url}/v1`, apiKey: 'none' },
          models: { 'ds4-tiny': { name: 'ds4-tiny', limit: { context: 65536, output: 1000 } } },
        },
      },
      model: 'ds4/ds4-tiny', small_model: 'ds4/ds4-tiny', share: 'disabled', autoupdate: false,
      agent: { small: { mode: 'primary', prompt, tools: { '*': false, read_file: true } } },
      mcp: { read: { type: 'local', command: [process.execPath, join(world.here, 'mcp.mjs'), 'file', world.log], enabled: true } },
    }));
  },
  turn(world, text, again) {
    return run(world, bin('opencode'), ['run', '--agent', 'small', ...(again ? ['--continue'] : []), ...text.split(' ')]);
  },
  own(world, text) {
    return run(world, bin('opencode'), ['run', ...text.split(' ')]);
  },
};

export const agents = { codex, claude, opencode };
