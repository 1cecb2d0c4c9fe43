// The openai package against /v1/chat/completions, /v1/completions and /v1/models.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { abortOnceActive, askWeather, stopsAfter, url, weather, who, whoAnswer } from './common.mjs';

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
const plain = { model: 'ds4-tiny', temperature: 0, thinking: { type: 'disabled' } };
const tool = { type: 'function', function: { name: weather.name, description: weather.description, parameters: weather.schema } };
const user = (content) => ({ role: 'user', content });

test('answers in one piece', async () => {
  const c = await client.chat.completions.create({ ...plain, max_tokens: 40, messages: [user(who)] });
  assert.equal(c.object, 'chat.completion');
  assert.match(c.choices[0].message.content, whoAnswer);
  assert.equal(c.choices[0].finish_reason, 'stop');
  assert.equal(c.usage.total_tokens, c.usage.prompt_tokens + c.usage.completion_tokens);
});

test('streams the same answer, and the usage if asked', async () => {
  const request = { ...plain, max_tokens: 40, messages: [user(who)] };
  const whole = await client.chat.completions.create(request);
  const stream = await client.chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } });
  let text = '';
  let usage;
  let finish;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(finish, 'stop');
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  assert.ok(usage.prompt_tokens_details.cached_tokens > 0, 'nothing of the repeated prompt was reused');
});

test('thinks in a field of its own', async () => {
  const c = await client.chat.completions.create({
    model: 'ds4-tiny', seed: 1, max_tokens: 200, messages: [user('What does strings.Cut do?')],
  });
  assert.ok(c.choices[0].message.reasoning_content.length > 0);
  assert.ok(!c.choices[0].message.content.includes('</think>'));
});

test('ends at a stop string, which is not shown', async () => {
  const c = await client.chat.completions.create({ ...plain, stop: ['tiny'], messages: [user(who)] });
  assert.equal(c.choices[0].message.content, 'I am ds4-');
  assert.equal(c.choices[0].finish_reason, 'stop');
});

test('calls a tool and uses its result', async () => {
  const messages = [user(askWeather)];
  const request = { ...plain, max_tokens: 100, tools: [tool] };
  const first = await client.chat.completions.create({ ...request, messages });
  const [choice] = first.choices;
  assert.equal(choice.finish_reason, 'tool_calls');
  assert.equal(choice.message.tool_calls.length, 1);
  const [call] = choice.message.tool_calls;
  assert.equal(call.type, 'function');
  assert.equal(call.function.name, weather.name);
  assert.deepEqual(JSON.parse(call.function.arguments), { city: 'Paris' });
  messages.push(choice.message, { role: 'tool', tool_call_id: call.id, content: '21 degrees and sunny' });
  const second = await client.chat.completions.create({ ...request, messages });
  assert.equal(second.choices[0].finish_reason, 'stop');
  assert.ok(second.choices[0].message.content.length > 0);
  // The second prompt goes on where the first answer ended.
  const known = first.usage.prompt_tokens + first.usage.completion_tokens;
  assert.ok(second.usage.prompt_tokens_details.cached_tokens >= known - 2,
    `${second.usage.prompt_tokens_details.cached_tokens} of ${known} known tokens were reused`);
});

test('streams a tool call', async () => {
  const stream = client.chat.completions.stream({ ...plain, max_tokens: 100, tools: [tool], messages: [user(askWeather)] });
  const fragments = [];
  stream.on('tool_calls.function.arguments.delta', (event) => fragments.push(event.arguments_delta));
  const final = await stream.finalChatCompletion();
  const [call] = final.choices[0].message.tool_calls;
  assert.equal(final.choices[0].finish_reason, 'tool_calls');
  assert.match(call.id, /^call_[0-9a-f]{32}$/);
  assert.deepEqual(JSON.parse(call.function.arguments), { city: 'Paris' });
  assert.equal(fragments.join(''), call.function.arguments);
  assert.ok(fragments.length > 1, 'the arguments came in one piece');
});

test('runs tools through the package\'s own loop', async () => {
  const asked = [];
  const runner = client.chat.completions.runTools({
    ...plain, max_tokens: 100, messages: [user(askWeather)],
    tools: [{
      type: 'function',
      function: {
        name: weather.name, description: weather.description, parameters: weather.schema, parse: JSON.parse,
        function: ({ city }) => { asked.push(city); return `21 degrees in ${city}`; },
      },
    }],
  });
  const text = await runner.finalContent();
  assert.deepEqual(asked, ['Paris']);
  assert.ok(text.length > 0);
});

test('leaves tools alone that tool_choice hides', async () => {
  const c = await client.chat.completions.create({
    ...plain, max_tokens: 60, tools: [tool], tool_choice: 'none', messages: [user(who)],
  });
  assert.equal(c.choices[0].message.tool_calls, undefined);
  assert.match(c.choices[0].message.content, whoAnswer);
});

test('errors have the types that the package knows', async () => {
  await assert.rejects(client.chat.completions.create({ ...plain, messages: [] }), (err) => {
    assert.ok(err instanceof OpenAI.BadRequestError);
    assert.equal(err.type, 'invalid_request_error');
    assert.equal(err.param, 'messages');
    return true;
  });
  for (const stream of [false, true]) {
    const long = client.chat.completions.create({ ...plain, stream, messages: [user('word '.repeat(20_000))] });
    await assert.rejects(long, (err) => err instanceof OpenAI.BadRequestError && err.code === 'context_length_exceeded');
  }
  await assert.rejects(client.models.retrieve('gpt-nothing'), OpenAI.NotFoundError);
  await assert.rejects(client.embeddings.create({ model: 'x', input: 'y' }), OpenAI.NotFoundError);
});

test('an aborted stream ends the work', async () => {
  const asked = 4000;
  await stopsAfter(asked, async () => {
    const stream = await client.chat.completions.create({
      ...plain, stream: true, max_tokens: asked, ignore_eos: true, messages: [user(who)],
    });
    for await (const chunk of stream) if (chunk.choices[0].delta.content) break; // leaving the loop aborts
  });
});

test('an aborted request without a stream ends the work', async () => {
  const asked = 4000;
  await stopsAfter(asked, async () => {
    const abort = new AbortController();
    const request = client.chat.completions.create(
      { ...plain, max_tokens: asked, ignore_eos: true, messages: [user(who)] }, { signal: abort.signal });
    await abortOnceActive(abort);
    await assert.rejects(request, OpenAI.APIUserAbortError);
  });
});

test('continues a plain completion', async () => {
  const request = { model: 'ds4-tiny', prompt: who, temperature: 0, max_tokens: 12 };
  const whole = await client.completions.create(request);
  assert.equal(whole.object, 'text_completion');
  assert.ok(whole.choices[0].text.length > 0);
  assert.equal(whole.usage.completion_tokens, 12);
  let text = '';
  for await (const chunk of await client.completions.create({ ...request, stream: true })) text += chunk.choices[0].text;
  assert.equal(text, whole.choices[0].text);
  await assert.rejects(client.completions.create({ model: 'ds4-tiny' }), OpenAI.BadRequestError);
});

test('lists models, and one of them', async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes('ds4-tiny'));
  assert.equal((await client.models.retrieve('ds4-tiny')).context_length, 8192);
});
