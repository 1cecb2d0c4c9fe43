// What llama.cpp makes of files that ds4 wrote or reads: with --golden it must
// continue the prompts of that file as ds4's tests demand of ds4, token by token;
// of other files, which may hold random weights, it must load and evaluate each.
//
//   node evaluate.mjs [--golden GOLDEN.json --prompts NAME,... --model FILE.gguf] [FILE.gguf...]
import assert from "node:assert/strict";
import fs from "node:fs";
import { parseArgs } from "node:util";
import llama from "@fugood/llama.node";

const { values: arg, positionals: files } = parseArgs({
  allowPositionals: true,
  options: { golden: { type: "string" }, prompts: { type: "string", default: "" }, model: { type: "string" } },
});

async function use(model, run) {
  const context = await llama.loadModel({ model, n_ctx: 512, n_threads: 2 });
  try {
    await run(context);
  } finally {
    await context.release();
  }
}

if (arg.golden) {
  const all = JSON.parse(fs.readFileSync(arg.golden, "utf8"));
  await use(arg.model, async (context) => {
    for (const name of arg.prompts.split(",")) {
      const want = all.find((g) => g.name === name);
      assert(want, `${arg.golden} has no prompt ${name}`);
      const { tokens } = await context.tokenize(want.text);
      assert.deepEqual(Object.values(tokens), want.tokens, `${name}: tokens of the prompt`);
      const got = await context.completion({ prompt: want.text, n_predict: want.greedy.length, temperature: 0, top_k: 1 });
      // Its text lacks the token that ends an answer.
      const answer = got.stopped_eos ? want.greedy.slice(0, -1) : want.greedy;
      assert.equal(got.text, await context.detokenize(answer), `${name}: continuation`);
      console.log(`${arg.model}: ${name}: the same ${want.greedy.length} tokens`);
    }
  });
}

for (const file of files) {
  await use(file, async (context) => {
    const tokens = 4;
    const got = await context.completion({ prompt: "The quick brown fox", n_predict: tokens, ignore_eos: true,
      seed: 1, temperature: 1, top_k: 0, top_p: 1, min_p: 0, n_probs: 1 });
    const likely = got.completion_probabilities.map((t) => t.probs[0].prob);
    assert.equal(likely.length, tokens, `${file}: tokens`);
    for (const p of likely) assert(p > 0 && p <= 1, `${file}: a probability of ${p}`);
    console.log(`${file}: ${tokens} tokens, the likeliest ${likely.map((p) => p.toFixed(4)).join(" ")}`);
  });
}
