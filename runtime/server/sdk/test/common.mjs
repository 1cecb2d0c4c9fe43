// What the tests of all client libraries share: the server's address, the questions
// that the embedded model answers reliably, and its counters.

import assert from 'node:assert/strict';

export const url = process.env.DS4_URL;
if (!url) throw new Error('DS4_URL is not set: start the tests with run.mjs');

// The embedded model's answer to "Who are you?" without thinking at temperature 0.
export const who = 'Who are you?';
export const whoAnswer = /^I am ds4-tiny/;

// Tools that the embedded model was trained to call by these names.
export const weather = {
  name: 'get_weather',
  description: 'Get the weather of a city',
  schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};
export const askWeather = 'What is the weather in Paris?';

// metric reads one number of the server's metrics page, 0 if it is not there.
export async function metric(name) {
  const page = await (await fetch(`${url}/metrics`)).text();
  const line = page.split('\n').find((l) => l.startsWith(`${name} `));
  return line ? Number(line.slice(name.length + 1)) : 0;
}

// eventually polls until a condition holds.
export async function eventually(what, condition) {
  const end = Date.now() + 60_000;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `not reached: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

// abortOnceActive aborts when the server works on a request.
export async function abortOnceActive(controller) {
  await eventually('the request is active', async () => await metric('ds4_active_requests') > 0);
  controller.abort();
}

// stopsAfter runs an abort and checks that the server noticed it: the request is
// counted as cancelled, nothing is active, and far fewer tokens were made than asked.
export async function stopsAfter(asked, abort) {
  const cancelled = await metric('ds4_cancelled_total');
  const decoded = await metric('ds4_decode_tokens_total');
  await abort();
  await eventually('the server notices the abort', async () => await metric('ds4_cancelled_total') > cancelled);
  await eventually('nothing is active', async () => await metric('ds4_active_requests') === 0);
  const made = await metric('ds4_decode_tokens_total') - decoded;
  assert.ok(made < asked, `${made} tokens were made of ${asked}, although the client left`);
}
