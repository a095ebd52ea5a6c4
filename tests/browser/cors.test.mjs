// Scripts of other origins call the gateway, with the CORS configuration of envoy/operator.yaml.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';

import { launch } from './browser.mjs';
import { api, call, eventually, startStack } from './stack.mjs';

const CONTACTS = '/api/v1/contacts';
const RATE_LIMIT = ['x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset'];

let browser, stack, secret;
const servers = [];

/** An empty page on an origin of its own. */
async function origin() {
  const server = createServer((_, answer) => answer.setHeader('content-type', 'text/html').end('<title>app</title>'));
  server.listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return `http://127.0.0.1:${server.address().port}`;
}

let own, foreign;
before(async () => {
  [own, foreign] = [await origin(), await origin()];
  [browser, stack] = await Promise.all([launch(), startStack(own)]);
  const limited = { name: 'app', environment: 'live', scopes: ['contacts:read'], rate_limit: { per_minute: 3 } };
  secret = (await api(stack, 'POST', '/v1/keys?wait=5s', limited)).secret;
  await eventually('the gateway knows the policy', async () => await call(stack, 'nothing', CONTACTS) === 401);
});
after(async () => {
  servers.forEach((server) => { server.closeAllConnections(); server.close(); });
  await browser?.close();
  await stack?.stop();
});

/** What a script on a page of this origin can read of the response to a call with these headers. */
async function fetched(from, headers) {
  const page = await browser.newPage();
  try {
    await page.goto(from);
    return await page.evaluate(async ([url, sent]) => {
      try {
        const answer = await fetch(url, { headers: sent });
        return { status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text() };
      } catch (error) {
        return { error: error.name };
      }
    }, [stack.gateway + CONTACTS, headers]);
  } finally {
    await page.close();
  }
}

test('a script of an allowed origin calls with a key, and reads limits and refusals', async () => {
  for (const headers of [{ authorization: `Bearer ${secret}` }, { 'x-api-key': secret }]) {
    const allowed = await fetched(own, headers);
    assert.equal(allowed.status, 200, JSON.stringify(allowed));
    for (const name of RATE_LIMIT) assert.match(allowed.headers[name] ?? '', /^\d+$/, name);
    assert.equal(allowed.headers['x-ratelimit-limit'], '3');
  }
  for (const [headers, code] of [[{}, 'missing_credentials'], [{ authorization: 'Bearer omf_live_wrong' }, 'malformed_key']]) {
    const refused = await fetched(own, headers);
    assert.equal(refused.status, 401, JSON.stringify(refused));
    assert.equal(JSON.parse(refused.body).code, code);
  }
  await fetched(own, { 'x-api-key': secret });
  const limited = await fetched(own, { 'x-api-key': secret });
  assert.equal(limited.status, 429, JSON.stringify(limited));
  assert.equal(JSON.parse(limited.body).code, 'rate_limited');
  assert.match(limited.headers['retry-after'], /^\d+$/);
  assert.equal(limited.headers['x-ratelimit-remaining'], '0');
});

test('preflight requests of an allowed origin cost nothing and reach no upstream', async () => {
  const answer = await fetch(stack.gateway + CONTACTS, {
    method: 'OPTIONS',
    headers: { origin: own, 'access-control-request-method': 'GET', 'access-control-request-headers': 'authorization' },
  });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get('access-control-allow-origin'), own);
  assert.equal(answer.headers.get('access-control-allow-credentials'), null);
  const log = await api(stack, 'GET', '/v1/audit?method=OPTIONS');
  assert.deepEqual(log.items, []);
});

test('a script of a foreign origin reads nothing', async () => {
  const { secret: other } = await api(stack, 'POST', '/v1/keys?wait=5s', { name: 'other', environment: 'live', scopes: ['contacts:read'] });
  for (const headers of [{}, { authorization: `Bearer ${other}` }]) {
    assert.deepEqual(await fetched(foreign, headers), { error: 'TypeError' });
    const answer = await fetch(stack.gateway + CONTACTS, { headers: { origin: foreign, ...headers } });
    const leaked = [...answer.headers.keys()].filter((name) => name.startsWith('access-control-'));
    assert.deepEqual(leaked, [], 'no header tells a foreign origin that it may read');
  }
  const preflight = await fetch(stack.gateway + CONTACTS, {
    method: 'OPTIONS',
    headers: { origin: foreign, 'access-control-request-method': 'GET', 'access-control-request-headers': 'authorization' },
  });
  assert.equal(preflight.status, 401);
  assert.deepEqual([...preflight.headers.keys()].filter((name) => name.startsWith('access-control-')), []);
});
