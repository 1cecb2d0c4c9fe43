// The openai package against /v1/responses.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { abortOnceActive, askWeather, stopsAfter, url, weather, who, whoAnswer } from './common.mjs';

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
const plain = { model: 'ds4-tiny', temperature: 0, store: false, reasoning: { effort: 'none' } };
const tool = { type: 'function', name: weather.name, description: weather.description, parameters: weather.schema, strict: false };

test('answers in one piece', async () => {
  const r = await client.responses.create({ ...plain, input: who });
  assert.equal(r.object, 'response');
  assert.equal(r.status, 'completed');
  assert.match(r.output_text, whoAnswer);
  assert.deepEqual(r.output.map((item) => item.type), ['message']);
  assert.equal(r.usage.total_tokens, r.usage.input_tokens + r.usage.output_tokens);
});

test('streams the same answer with the events of the lifecycle', async () => {
  const whole = await client.responses.create({ ...plain, input: who });
  const stream = await client.responses.create({ ...plain, input: who, stream: true });
  const types = [];
  let sequence = 0;
  let text = '';
  let final;
  for await (const event of stream) {
    assert.equal(event.sequence_number, sequence++);
    if (types.at(-1) !== event.type) types.push(event.type);
    if (event.type === 'response.output_text.delta') text += event.delta;
    if (event.type === 'response.completed') final = event.response;
  }
  assert.deepEqual(types.filter((t) => t !== 'response.in_progress'), [
    'response.created', 'response.output_item.added', 'response.content_part.added', 'response.output_text.delta',
    'response.output_text.done', 'response.content_part.done', 'response.output_item.done', 'response.completed',
  ]);
  assert.equal(text, whole.output_text);
  assert.equal(final.output[0].content[0].text, text);
});

test('is followed by the package\'s own accumulator', async () => {
  const final = await client.responses.stream({ ...plain, input: who }).finalResponse();
  assert.match(final.output_text, whoAnswer);
});

test('shows a summary of the reasoning if asked', async () => {
  const r = await client.responses.stream({
    model: 'ds4-tiny', reasoning: { effort: 'high', summary: 'auto' }, input: 'What does strings.Cut do?',
  }).finalResponse();
  const [reasoning] = r.output;
  assert.equal(reasoning.type, 'reasoning');
  assert.ok(reasoning.summary[0].text.length > 0);
  const quiet = await client.responses.create({ model: 'ds4-tiny', reasoning: { effort: 'high' }, input: 'What does strings.Cut do?' });
  assert.ok(quiet.output.every((item) => item.type !== 'reasoning' || item.summary.length === 0));
});

test('says when the limit ended the answer', async () => {
  const r = await client.responses.create({ ...plain, max_output_tokens: 3, input: who });
  assert.equal(r.status, 'incomplete');
  assert.equal(r.incomplete_details.reason, 'max_output_tokens');
});

test('calls a tool and uses its result', async () => {
  const input = [{ role: 'user', content: askWeather }];
  const request = { ...plain, tools: [tool], parallel_tool_calls: true, include: ['reasoning.encrypted_content'] };
  const first = await client.responses.create({ ...request, input });
  const call = first.output.find((item) => item.type === 'function_call');
  assert.equal(first.status, 'completed');
  assert.equal(call.name, weather.name);
  assert.deepEqual(JSON.parse(call.arguments), { city: 'Paris' });
  input.push(...first.output, { type: 'function_call_output', call_id: call.call_id, output: '21 degrees and sunny' });
  const second = await client.responses.create({ ...request, input });
  assert.equal(second.status, 'completed');
  assert.ok(second.output_text.length > 0);
  const known = first.usage.input_tokens + first.usage.output_tokens;
  assert.ok(second.usage.input_tokens_details.cached_tokens >= known - 2,
    `${second.usage.input_tokens_details.cached_tokens} of ${known} known tokens were reused`);
});

test('streams a tool call', async () => {
  const stream = client.responses.stream({ ...plain, tools: [tool], input: askWeather });
  const fragments = [];
  stream.on('response.function_call_arguments.delta', (event) => fragments.push(event.delta));
  const final = await stream.finalResponse();
  const call = final.output.find((item) => item.type === 'function_call');
  assert.deepEqual(JSON.parse(call.arguments), { city: 'Paris' });
  assert.equal(fragments.join(''), call.arguments);
  assert.ok(fragments.length > 1, 'the arguments came in one piece');
});

test('calls a tool because it must', async () => {
  for (const choice of ['required', { type: 'function', name: weather.name }]) {
    const r = await client.responses.create({ ...plain, tools: [tool], tool_choice: choice, input: who });
    const call = r.output.find((item) => item.type === 'function_call');
    assert.equal(call.name, weather.name);
    assert.ok(JSON.parse(call.arguments));
  }
});

test('errors have the types that the package knows', async () => {
  const refused = [
    { ...plain },
    { ...plain, input: who, previous_response_id: 'resp_1' },
    { ...plain, input: who, tools: [tool], tool_choice: { type: 'web_search' } },
    { ...plain, input: who, tools: [tool], tool_choice: { type: 'function', name: 'other' } },
  ];
  for (const request of refused) await assert.rejects(client.responses.create(request), OpenAI.BadRequestError);
  for (const stream of [false, true]) {
    const long = client.responses.create({ ...plain, stream, input: 'word '.repeat(20_000) });
    await assert.rejects(long, (err) => err instanceof OpenAI.BadRequestError && err.code === 'context_length_exceeded' && err.param === 'input');
  }
});

test('an aborted stream ends the work', async () => {
  const asked = 4000;
  await stopsAfter(asked, async () => {
    const stream = await client.responses.create({ ...plain, stream: true, max_output_tokens: asked, ignore_eos: true, input: who });
    for await (const event of stream) if (event.type === 'response.output_text.delta') break; // leaving the loop aborts
  });
});

test('an aborted request without a stream ends the work', async () => {
  const asked = 4000;
  await stopsAfter(asked, async () => {
    const abort = new AbortController();
    const request = client.responses.create(
      { ...plain, max_output_tokens: asked, ignore_eos: true, input: who }, { signal: abort.signal });
    await abortOnceActive(abort);
    await assert.rejects(request, OpenAI.APIUserAbortError);
  });
});
