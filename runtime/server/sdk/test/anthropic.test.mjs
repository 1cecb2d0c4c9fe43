// The @anthropic-ai/sdk package against /v1/messages and /v1/messages/count_tokens.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { abortOnceActive, askWeather, stopsAfter, url, weather, who, whoAnswer } from './common.mjs';

const client = new Anthropic({ baseURL: url, apiKey: 'none', maxRetries: 0 });
const plain = { model: 'claude-any', temperature: 0, thinking: { type: 'disabled' } };
const tool = { name: weather.name, description: weather.description, input_schema: weather.schema };
const user = (content) => ({ role: 'user', content });

test('answers in one piece', async () => {
  const m = await client.messages.create({ ...plain, max_tokens: 40, messages: [user(who)] });
  assert.equal(m.type, 'message');
  assert.equal(m.role, 'assistant');
  assert.equal(m.model, 'claude-any');
  assert.deepEqual(m.content.map((b) => b.type), ['text']);
  assert.match(m.content[0].text, whoAnswer);
  assert.equal(m.stop_reason, 'end_turn');
  assert.ok(m.usage.output_tokens > 0);
});

test('streams the same answer with named events in order', async () => {
  const request = { ...plain, max_tokens: 40, messages: [user(who)] };
  const whole = await client.messages.create(request);
  const stream = client.messages.stream(request);
  const events = [];
  stream.on('streamEvent', (event) => { if (events.at(-1) !== event.type) events.push(event.type); });
  const final = await stream.finalMessage();
  assert.deepEqual(events.filter((e) => e !== 'ping'), [
    'message_start', 'content_block_start', 'content_block_delta', 'content_block_stop', 'message_delta', 'message_stop',
  ]);
  assert.equal(final.content[0].text, whole.content[0].text);
  assert.equal(final.stop_reason, whole.stop_reason);
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
  const { input_tokens: fresh, cache_read_input_tokens: read, cache_creation_input_tokens: written } = final.usage;
  const before = whole.usage;
  assert.ok(read > 0, 'nothing of the repeated prompt was reused');
  assert.equal(fresh + read + written,
    before.input_tokens + before.cache_read_input_tokens + before.cache_creation_input_tokens);
});

test('thinks in a block of its own', async () => {
  const stream = client.messages.stream({
    model: 'x', max_tokens: 1200, thinking: { type: 'enabled', budget_tokens: 1024 }, messages: [user('What does strings.Cut do?')],
  });
  const deltas = new Set();
  stream.on('streamEvent', (e) => { if (e.type === 'content_block_delta') deltas.add(e.delta.type); });
  const m = await stream.finalMessage();
  assert.equal(m.content[0].type, 'thinking');
  assert.ok(m.content[0].thinking.length > 0);
  assert.ok(m.content[0].signature.length > 0);
  assert.ok(deltas.has('thinking_delta') && deltas.has('signature_delta'));
});

test('takes system as a string and as parts', async () => {
  const request = { ...plain, max_tokens: 20, messages: [user([{ type: 'text', text: who }])] };
  const text = await client.messages.create({ ...request, system: 'You are ds4-tiny.' });
  const parts = await client.messages.create({
    ...request, system: [{ type: 'text', text: 'You are ds4-tiny.', cache_control: { type: 'ephemeral' } }],
  });
  assert.deepEqual(parts.content, text.content);
});

test('names the stop sequence that ended the answer', async () => {
  const m = await client.messages.create({ ...plain, max_tokens: 40, stop_sequences: ['never', 'tiny'], messages: [user(who)] });
  assert.equal(m.content[0].text, 'I am ds4-');
  assert.equal(m.stop_reason, 'stop_sequence');
  assert.equal(m.stop_sequence, 'tiny');
});

test('says when the limit ended the answer', async () => {
  const m = await client.messages.create({ ...plain, max_tokens: 3, messages: [user(who)] });
  assert.equal(m.stop_reason, 'max_tokens');
  assert.equal(m.usage.output_tokens, 3);
});

test('calls a tool and uses its result', async () => {
  const messages = [user(askWeather)];
  const request = { ...plain, max_tokens: 100, tools: [tool] };
  const first = await client.messages.create({ ...request, messages });
  assert.equal(first.stop_reason, 'tool_use');
  const call = first.content.find((b) => b.type === 'tool_use');
  assert.match(call.id, /^toolu_[0-9a-f]{32}$/);
  assert.equal(call.name, weather.name);
  assert.deepEqual(call.input, { city: 'Paris' });
  messages.push(
    { role: 'assistant', content: first.content },
    user([{ type: 'tool_result', tool_use_id: call.id, content: [{ type: 'text', text: '21 degrees and sunny' }] }]),
  );
  const second = await client.messages.create({ ...request, messages });
  assert.equal(second.stop_reason, 'end_turn');
  const sent = (m) => m.usage.input_tokens + m.usage.cache_read_input_tokens + m.usage.cache_creation_input_tokens;
  const known = sent(first) + first.usage.output_tokens;
  assert.ok(second.usage.cache_read_input_tokens >= known - 2,
    `${second.usage.cache_read_input_tokens} of ${known} known tokens were reused`);
});

test('streams a tool call', async () => {
  const stream = client.messages.stream({ ...plain, max_tokens: 100, tools: [tool], messages: [user(askWeather)] });
  const fragments = [];
  stream.on('inputJson', (part) => { if (part) fragments.push(part); });
  const final = await stream.finalMessage();
  const call = final.content.find((b) => b.type === 'tool_use');
  assert.equal(final.stop_reason, 'tool_use');
  assert.deepEqual(call.input, { city: 'Paris' });
  assert.deepEqual(JSON.parse(fragments.join('')), call.input);
  assert.ok(fragments.length > 1, 'the input came in one piece');
});

test('calls a tool because it must', async () => {
  for (const choice of [{ type: 'any' }, { type: 'tool', name: weather.name }]) {
    const m = await client.messages.create({ ...plain, max_tokens: 100, tools: [tool], tool_choice: choice, messages: [user(who)] });
    assert.equal(m.stop_reason, 'tool_use');
    assert.equal(m.content.find((b) => b.type === 'tool_use').name, weather.name);
  }
});

test('counts tokens as an answer counts them', async () => {
  const request = { model: 'x', system: 'You are ds4-tiny.', tools: [tool], messages: [user(askWeather)] };
  const counted = await client.messages.countTokens(request);
  const { usage } = await client.messages.create({ ...request, max_tokens: 1 });
  assert.equal(counted.input_tokens,
    usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens);
});

test('errors have the types that the package knows', async () => {
  const bad = client.messages.create({ ...plain, max_tokens: 10, messages: [] });
  await assert.rejects(bad, (err) => {
    assert.ok(err instanceof Anthropic.BadRequestError);
    assert.equal(err.error.type, 'error');
    assert.equal(err.error.error.type, 'invalid_request_error');
    return true;
  });
  for (const stream of [false, true]) {
    const long = client.messages.create({ ...plain, stream, max_tokens: 10, messages: [user('word '.repeat(20_000))] });
    await assert.rejects(long, (err) => err instanceof Anthropic.BadRequestError && err.error.error.n_ctx === 8192);
  }
  await assert.rejects(client.messages.batches.list(), Anthropic.NotFoundError);
});

test('an aborted stream ends the work', async () => {
  const asked = 4000;
  await stopsAfter(asked, async () => {
    const stream = await client.messages.create({ ...plain, stream: true, max_tokens: asked, ignore_eos: true, messages: [user(who)] });
    for await (const event of stream) if (event.type === 'content_block_delta') break; // leaving the loop aborts
  });
});

test('an aborted request without a stream ends the work', async () => {
  const asked = 4000;
  await stopsAfter(asked, async () => {
    const abort = new AbortController();
    const request = client.messages.create(
      { ...plain, max_tokens: asked, ignore_eos: true, messages: [user(who)] }, { signal: abort.signal });
    await abortOnceActive(abort);
    await assert.rejects(request, Anthropic.APIUserAbortError);
  });
});
