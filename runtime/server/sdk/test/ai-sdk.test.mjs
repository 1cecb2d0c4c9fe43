// The ai package with @ai-sdk/openai-compatible, as agents built on it use the server.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai';
import { abortOnceActive, askWeather, stopsAfter, url, weather, who, whoAnswer } from './common.mjs';

const provider = createOpenAICompatible({
  name: 'ds4', baseURL: `${url}/v1`, apiKey: 'none', includeUsage: true,
  transformRequestBody: (body) => ({ thinking: false, ...body, ...(body.max_tokens > 2000 ? { ignore_eos: true } : {}) }),
});
const model = provider('ds4-tiny');
const plain = { model, temperature: 0, maxRetries: 0, maxOutputTokens: 100 };

const weatherTool = (asked) => tool({
  description: weather.description,
  inputSchema: jsonSchema(weather.schema),
  execute: async ({ city }) => { asked.push(city); return `21 degrees in ${city}`; },
});

test('answers in one piece', async () => {
  const { text, finishReason, usage } = await generateText({ ...plain, prompt: who });
  assert.match(text, whoAnswer);
  assert.equal(finishReason, 'stop');
  assert.ok(usage.inputTokens > 0 && usage.outputTokens > 0);
});

test('streams the same answer', async () => {
  const whole = await generateText({ ...plain, prompt: who });
  const stream = streamText({ ...plain, prompt: who });
  let text = '';
  for await (const part of stream.textStream) text += part;
  assert.equal(text, whole.text);
  assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
});

test('shows the reasoning apart', async () => {
  const thinking = createOpenAICompatible({ name: 'ds4', baseURL: `${url}/v1` })('ds4-tiny');
  const { text, reasoningText } = await generateText({ model: thinking, seed: 1, maxRetries: 0, prompt: 'What does strings.Cut do?' });
  assert.ok(reasoningText.length > 0 && text.length > 0);
});

test('runs a tool and goes on with its result', async () => {
  const asked = [];
  const result = await generateText({
    ...plain, tools: { [weather.name]: weatherTool(asked) }, stopWhen: stepCountIs(3), prompt: askWeather,
  });
  assert.deepEqual(asked, ['Paris']);
  assert.equal(result.steps.length, 2);
  assert.equal(result.steps[0].finishReason, 'tool-calls');
  assert.ok(result.text.length > 0);
});

test('runs a tool from a stream', async () => {
  const asked = [];
  const stream = streamText({
    ...plain, tools: { [weather.name]: weatherTool(asked) }, stopWhen: stepCountIs(3), prompt: askWeather,
  });
  const parts = [];
  for await (const part of stream.fullStream) parts.push(part);
  assert.deepEqual(asked, ['Paris']);
  assert.ok(parts.filter((p) => p.type === 'tool-input-delta').length > 1, 'the input came in one piece');
  assert.deepEqual(parts.find((p) => p.type === 'tool-call').input, { city: 'Paris' });
  assert.equal(parts.find((p) => p.type === 'error'), undefined);
});

test('errors carry the status and the message', async () => {
  await assert.rejects(generateText({ ...plain, prompt: 'word '.repeat(20_000) }), (err) => {
    assert.ok(APICallError.isInstance(err));
    assert.equal(err.statusCode, 400);
    assert.equal(err.isRetryable, false);
    assert.match(err.message, /context/);
    return true;
  });
});

test('an aborted stream ends the work', async () => {
  const asked = 4000;
  await stopsAfter(asked, async () => {
    const abort = new AbortController();
    const stream = streamText({ ...plain, maxOutputTokens: asked, prompt: who, abortSignal: abort.signal });
    for await (const part of stream.textStream) if (part) abort.abort();
  });
});

test('an aborted request without a stream ends the work', async () => {
  const asked = 4000;
  await stopsAfter(asked, async () => {
    const abort = new AbortController();
    const request = generateText({ ...plain, maxOutputTokens: asked, prompt: who, abortSignal: abort.signal });
    await abortOnceActive(abort);
    await assert.rejects(request, { name: 'AbortError' });
  });
});
