// What others could try from outside: forms from elsewhere, frames, caches.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { after, before, test } from 'node:test';

import { launch, signIn, openPage } from './browser.mjs';
import { api, startStack } from './stack.mjs';

let browser, stack, evil;
before(async () => {
  [browser, stack] = await Promise.all([launch(), startStack()]);
});
after(async () => {
  evil?.closeAllConnections();
  evil?.close();
  await browser?.close();
  await stack?.stop();
});

/** A page of somebody else, on another origin of the same machine: cookies do not tell ports apart. */
async function elsewhere(html) {
  evil = createServer((_, answer) => answer.setHeader('content-type', 'text/html').end(html));
  evil.listen(0, '127.0.0.1');
  await once(evil, 'listening');
  return `http://127.0.0.1:${evil.address().port}/`;
}

test('a form of another origin does nothing, with the cookie and even with the right token', async () => {
  const { key } = await api(stack, 'POST', '/v1/keys', { name: 'target', environment: 'live', scopes: [] });
  const { context, page } = await openPage(browser, stack);
  await signIn(page, stack.owner);
  await page.goto('/keys');
  const csrf = await page.locator('[name=csrf]').first().inputValue();
  for (const token of ['', csrf]) {
    const address = await elsewhere(`<form method=post action="${stack.control_plane}/keys/${key.id}/revoke">
      <input name=csrf value="${token}"><input name=name value=target><input name=revision value=1><button>win</button></form>`);
    await page.goto(address);
    await page.getByRole('button', { name: 'win' }).click();
    await page.getByText('was not submitted from a page of this control plane').waitFor();
    evil.close();
  }
  assert.equal((await api(stack, 'GET', `/v1/keys/${key.id}`)).status, 'active');
  await context.close();
});

test('no page can be framed', async () => {
  const { context, page } = await openPage(browser, stack);
  await signIn(page, stack.owner);
  const address = await elsewhere(`<iframe src="${stack.control_plane}/keys"></iframe>`);
  await page.goto(address);
  const frame = await eventuallyFrame(page);
  assert.ok(!(await frame.content().catch(() => '')).includes('API keys'));
  await context.close();
});

async function eventuallyFrame(page) {
  await page.waitForLoadState('load');
  return page.frames().find((frame) => frame !== page.mainFrame());
}

test('pages are in no cache, and their headers keep scripts and frames out', async () => {
  const { context, page } = await openPage(browser, stack);
  await signIn(page, stack.owner);
  for (const path of ['/keys', '/keys/new', '/tokens', '/settings', '/nothing']) {
    const headers = (await page.goto(path)).headers();
    assert.equal(headers['cache-control'], 'no-store', path);
    assert.equal(headers['x-frame-options'], 'DENY', path);
    assert.match(headers['content-security-policy'], /^default-src 'none'; script-src 'self'; style-src 'self';/, path);
    assert.doesNotMatch(headers['content-security-policy'], /unsafe/, path);
    const markup = await page.content();
    assert.doesNotMatch(markup, / style=| on[a-z]+=|<script>|<style/, path);
  }
  const cookies = await context.cookies();
  const session = cookies.find(({ name }) => name === 'omf-session');
  assert.equal(session.httpOnly, true);
  assert.equal(session.sameSite, 'Lax');
  assert.equal(await page.evaluate(() => document.cookie), '');
  await context.close();
});
