// A small OpenAI-compatible server around llama.cpp: one context, one request at
// a time, its state kept in one file so that a restart need not prefill again.
// It is what ds4bench is shown to work with that knows nothing of ds4.
//
//   node server.mjs --port 8080 --model FILE.gguf [--dir STATE] [--ctx 4096] [--threads 2]
import http from "node:http";
import fs from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import llama from "@fugood/llama.node";

const { values: arg } = parseArgs({
  options: {
    port: { type: "string" }, model: { type: "string" }, dir: { type: "string" },
    ctx: { type: "string", default: "4096" }, threads: { type: "string", default: "2" },
  },
});
const limitBytes = 8 << 20;
const state = arg.dir && path.join(arg.dir, "session.bin");
const context = await llama.loadModel({ model: arg.model, n_ctx: +arg.ctx, n_threads: +arg.threads });

if (state && fs.existsSync(state)) {
  try {
    await context.loadSession(state);
    console.log(`state of ${fs.statSync(state).size} bytes loaded`);
  } catch (err) {
    console.log(`state is of no use: ${err.message}`);
  }
}

let last = Promise.resolve(); // requests run one after the other
let stopping = false;

async function complete(req, res, body) {
  const gone = { yes: false };
  res.on("close", () => { if (!res.writableFinished) { gone.yes = true; context.stopCompletion(); } });
  const chat = req.url === "/v1/chat/completions";
  const piece = (text, finish) => ({
    object: chat ? "chat.completion.chunk" : "text_completion",
    choices: [chat ? { index: 0, delta: { content: text }, finish_reason: finish } : { index: 0, text, finish_reason: finish }],
  });
  const send = (object) => res.write(`data: ${JSON.stringify(object)}\n\n`);
  if (body.stream) res.writeHead(200, { "content-type": "text/event-stream" });
  const result = await context.completion(
    { ...(chat ? { messages: body.messages, jinja: false } : { prompt: body.prompt }), n_predict: body.max_tokens ?? 128, temperature: 0, top_k: 1 },
    ({ token }) => { if (body.stream && !gone.yes) send(piece(token, null)); },
  );
  if (gone.yes) return;
  if (state) await context.saveSession(state);
  const usage = { prompt_tokens: result.tokens_evaluated, completion_tokens: result.tokens_predicted };
  const finish = result.stopped_limit ? "length" : "stop";
  if (body.stream) {
    send(piece("", finish));
    res.end("data: [DONE]\n\n");
    return;
  }
  res.setHeader("content-type", "application/json");
  const choice = chat ? { message: { role: "assistant", content: result.text } } : { text: result.text };
  res.end(JSON.stringify({ choices: [{ index: 0, ...choice, finish_reason: finish }], usage }));
}

function fail(res, status, message) {
  if (res.headersSent) return res.end(`data: ${JSON.stringify({ error: { message, type: "server_error" } })}\n\n`);
  res.writeHead(status, { "content-type": "application/json" });
  res.end(JSON.stringify({ error: { message, type: status < 500 ? "invalid_request_error" : "server_error" } }));
}

const server = http.createServer((req, res) => {
  if (req.url === "/v1/models") return res.end(JSON.stringify({ data: [{ id: path.basename(arg.model), object: "model" }] }));
  if (req.method !== "POST" || !["/v1/chat/completions", "/v1/completions"].includes(req.url)) return fail(res, 404, "no such page");
  let text = "";
  req.setEncoding("utf8");
  req.on("data", (part) => { text += part; if (text.length > limitBytes) req.destroy(); });
  req.on("end", () => {
    let body;
    try { body = JSON.parse(text); } catch (err) { return fail(res, 400, err.message); }
    last = last.then(() => (stopping || res.destroyed ? undefined : complete(req, res, body))).catch((err) => fail(res, 500, err.message));
  });
});

process.on("SIGTERM", async () => {
  stopping = true;
  server.close();
  context.stopCompletion();
  await last;
  process.exit(0);
});
server.listen(+arg.port, "127.0.0.1", () => console.log(`ready on port ${arg.port}`));
