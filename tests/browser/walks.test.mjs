// What people do, from the first sign-in to a revocation that is found in the history.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';

import { launch, signIn, openPage } from './browser.mjs';
import { api, call, eventually, startStack } from './stack.mjs';

let browser, stack;
before(async () => {
  [browser, stack] = await Promise.all([launch(), startStack()]);
});
after(async () => {
  await browser?.close();
  await stack?.stop();
});

const CONTACTS = '/api/v1/contacts';
const answers = (secret, status) => eventually(`${status} for the key`, async () => await call(stack, secret, CONTACTS) === status);

async function fillNewKey(page, name) {
  await page.goto('/keys');
  await page.getByRole('link', { name: 'New key' }).first().click();
  await page.getByLabel('Name', { exact: true }).fill(name);
  await page.getByRole('checkbox', { name: /^contacts:read/ }).check();
  await page.getByLabel('Calls per minute').fill('600');
}

async function createKey(page, name) {
  await fillNewKey(page, name);
  await page.getByRole('button', { name: 'Review' }).last().click();
  await page.getByRole('heading', { name: `Review: ${name}` }).waitFor();
  await page.getByRole('button', { name: 'Create key' }).click();
  return page.locator('#secret').innerText();
}

for (const scripts of [true, false]) {
  test(`a key from the first sign-in to its end${scripts ? '' : ', without scripts'}`, async () => {
    const { context, page, consoleErrors } = await openPage(browser, stack, { scripts });
    const name = scripts ? 'crm-sync' : 'plain-sync';
    await page.goto('/');
    assert.equal(new URL(page.url()).pathname, '/sign-in');
    await signIn(page, stack.owner);
    assert.equal(new URL(page.url()).pathname, '/keys');

    const secret = await createKey(page, name);
    assert.match(secret, /^omf_live_[0-9A-Za-z]{46}$/);
    if (scripts) {
      await page.getByRole('button', { name: 'Copy' }).first().click();
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), secret);
    }
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: '.env' }).click()]);
    assert.equal(file.suggestedFilename(), `${name}.env`);
    assert.equal(await readFile(await file.path(), 'utf8'), `${name.toUpperCase().replace('-', '_')}_API_KEY=${secret}\n`);

    await answers(secret, 200);
    const curl = await page.locator('#curl').innerText();
    assert.match(execFileSync('/bin/sh', ['-c', curl], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }), /^HTTP\/1\.1 200 /);
    await page.getByRole('link', { name: 'View key' }).click();
    await page.waitForURL(/\/keys\/[^/]+$/);
    await eventually('the call is listed on the page of the key', async () => {
      await page.reload();
      return page.locator('table', { hasText: 'Outcome' }).getByText(CONTACTS, { exact: true }).count();
    });

    await page.getByRole('link', { name: 'Rotate' }).click();
    await page.getByLabel('24 hours').check();
    await page.getByRole('button', { name: 'Rotate' }).click();
    const next = await page.locator('#secret').innerText();
    assert.notEqual(next, secret);
    await answers(next, 200);
    assert.equal(await call(stack, secret, CONTACTS), 200, 'both work');
    await page.getByRole('link', { name: 'View key' }).click();
    assert.match(await page.locator('table', { hasText: 'Last used' }).first().innerText(), /rotating[\s\S]*expires in 23 h/);

    // Revoking one version ends the old secret; the new one stays valid.
    await page.getByRole('link', { name: 'Revoke version 1' }).click();
    await page.getByRole('button', { name: 'Revoke version' }).click();
    await page.getByText(/^✓ 1 of 1 gateway, \d+ ms$/).waitFor();
    assert.equal(await call(stack, secret, CONTACTS), 401, 'the revoked version is refused');
    assert.equal(await call(stack, next, CONTACTS), 200);

    await page.getByRole('link', { name: 'View key' }).click();
    await page.getByRole('link', { name: 'Revoke', exact: true }).click();
    await page.getByLabel('to confirm').fill('something else');
    await page.getByRole('button', { name: 'Revoke' }).click();
    await page.getByText(`The name does not match: type ${name} to confirm.`).waitFor();
    assert.equal(await page.getByLabel('to confirm').inputValue(), 'something else');
    assert.equal(await call(stack, next, CONTACTS), 200, 'nothing was changed');
    await page.getByLabel('to confirm').fill(name);
    await page.getByRole('button', { name: 'Revoke' }).click();
    await page.getByText(/^✓ 1 of 1 gateway, \d+ ms$/).waitFor();
    assert.equal(await call(stack, next, CONTACTS), 401);

    await page.getByRole('link', { name: 'View key' }).click();
    const history = await page.locator('.history').innerText();
    for (const action of ['key.created', 'key.rotated', 'key.version_revoked', 'key.revoked']) assert.ok(history.includes(action), action);
    assert.deepEqual(consoleErrors, []);
    await context.close();
  });
}

test('a secret is shown once, and is in no URL, no history and no reloaded page', async () => {
  const { context, page } = await openPage(browser, stack);
  const addresses = [];
  context.on('request', (request) => addresses.push(request.url()));
  await signIn(page, stack.owner);
  const secret = await createKey(page, 'once');
  const keys = async () => (await api(stack, 'GET', '/v1/keys?q=once')).items.length;
  assert.equal(await keys(), 1);

  await page.reload();
  assert.equal(await page.getByText('The secret was shown once').count(), 1);
  assert.ok(!(await page.content()).includes(secret));
  assert.equal(await keys(), 1, 'no second key was created');

  await page.getByRole('link', { name: 'View key' }).click();
  // A browser has the answer to a form in no cache: going back, it asks whether to send it again, or shows that it cannot.
  for (let step = 0; step < 4; step += 1) {
    await page.goBack().catch((error) => assert.match(error.message, /ERR_CACHE_MISS/));
    const shown = await eventually('the browser has gone back', () => page.content().catch(() => null));
    assert.ok(!shown.includes(secret), 'going back does not show it');
  }
  assert.deepEqual(addresses.filter((url) => url.includes(secret) || url.includes(stack.owner)), []);
  await context.close();
});

test('a secret is removed from its page when the page is left', async () => {
  const { context, page } = await openPage(browser, stack);
  await signIn(page, stack.owner);
  const secret = await createKey(page, 'left');
  // What a browser keeps of a page to come back to is what the page was when it was left.
  const left = await page.evaluate(() => {
    window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }));
    return document.documentElement.outerHTML;
  });
  assert.ok(!left.includes(secret));
  await context.close();
});

test('errors are shown at their field, input is kept, and the script checks during input', async () => {
  for (const scripts of [true, false]) {
    const { context, page, consoleErrors } = await openPage(browser, stack, { scripts });
    await signIn(page, stack.owner);
    await fillNewKey(page, 'typed');
    await page.getByLabel('IP allowlist').fill('203.0.113.0/24\n10.0.0.1/8');
    await page.getByLabel('Description').fill('<b>kept</b>');
    await page.getByText('90 days').click();
    if (scripts) {
      await page.getByText(/10\.0\.0\.1\/8/).and(page.locator('.error')).waitFor();
      assert.equal(await page.getByLabel('IP allowlist').getAttribute('aria-invalid'), 'true');
    } else {
      await page.getByRole('button', { name: 'Add my IP address' }).click();
      assert.equal(await page.getByLabel('IP allowlist').inputValue(), '203.0.113.0/24\n10.0.0.1/8\n127.0.0.1');
    }
    await page.getByRole('button', { name: 'Review' }).last().click();
    await page.locator('#ip_allowlist-error', { hasText: '10.0.0.1/8' }).waitFor();
    assert.equal(await page.getByLabel('Name', { exact: true }).inputValue(), 'typed');
    assert.equal(await page.getByLabel('Description').inputValue(), '<b>kept</b>');
    assert.ok(await page.getByRole('checkbox', { name: /^contacts:read/ }).isChecked());
    assert.ok(await page.getByLabel('90 days').isChecked());
    if (scripts) {
      // Input in another field does not clear this error.
      const checked = page.waitForResponse((response) => response.url().endsWith('/keys/check'));
      await page.getByLabel('Description').pressSequentially('!');
      await (await checked).finished();
      assert.match(await page.locator('#ip_allowlist-error').innerText(), /10\.0\.0\.1\/8/);
      await page.getByLabel('Description').fill('<b>kept</b>');
    }
    await page.getByLabel('IP allowlist').fill('203.0.113.0/24');
    if (scripts) await page.locator('#ip_allowlist-error:empty').waitFor({ state: 'attached' });
    await page.getByRole('button', { name: 'Review' }).last().click();
    await page.getByRole('heading', { name: 'Review: typed' }).waitFor();
    await page.getByRole('button', { name: 'Edit' }).click();
    assert.equal(await page.getByLabel('Calls per minute').inputValue(), '600');
    assert.deepEqual(consoleErrors, []);
    await context.close();
  }
});

test('the second of two admins who change a key sees both changes', async () => {
  const { key } = await api(stack, 'POST', '/v1/keys', { name: 'shared', environment: 'live', scopes: ['contacts:read'] });
  const { context, page } = await openPage(browser, stack);
  await signIn(page, stack.owner, `/keys/${key.id}`);
  await page.getByText('Edit settings').click();
  await page.getByLabel('Description').fill('mine');
  await api(stack, 'PATCH', `/v1/keys/${key.id}`, { description: 'theirs', rate_limit: { per_minute: 7 } });
  await page.getByRole('button', { name: 'Save' }).last().click();
  await page.getByText('This key was changed since you loaded the page').waitFor();
  const row = page.getByRole('row', { name: /Description/ });
  assert.match(await row.innerText(), /theirs\s+mine/);
  assert.match(await page.getByRole('row', { name: /Calls per minute/ }).innerText(), /7\s+60/);
  assert.equal(await page.getByLabel('Description').inputValue(), 'mine');
  await page.getByRole('button', { name: 'Save' }).last().click();
  await page.getByText('Saved.').waitFor();
  assert.equal((await api(stack, 'GET', `/v1/keys/${key.id}`)).description, 'mine');
  await context.close();
});

test('an auditor can view a key but not change it', async () => {
  const { key } = await api(stack, 'POST', '/v1/keys', { name: 'looked-at', environment: 'live', scopes: ['contacts:read'] });
  const { secret } = await api(stack, 'POST', '/v1/tokens', { name: 'auditor', role: 'auditor' });
  const { context, page, consoleErrors } = await openPage(browser, stack);
  await signIn(page, secret);
  await page.goto(`/keys/${key.id}`);
  await page.getByRole('heading', { name: 'looked-at' }).waitFor();
  for (const name of ['Rotate', 'Revoke', 'New key', 'Save', 'Edit settings']) {
    assert.equal(await page.getByRole('link', { name }).or(page.getByRole('button', { name })).or(page.getByText(name, { exact: true })).count(), 0, name);
  }
  assert.equal(await page.getByRole('link', { name: 'Tokens' }).count(), 0);
  for (const path of ['/keys/new', `/keys/${key.id}/rotate`, `/keys/${key.id}/revoke`, '/tokens', '/tokens/new']) {
    assert.equal((await page.goto(path)).status(), 403, path);
    assert.match(await page.locator('main').innerText(), /your token has the role auditor/);
  }
  // With a form that was made by hand, and the token of the auditor's own session.
  await page.goto('/keys');
  const status = await page.evaluate(async (path) => {
    const body = new URLSearchParams({ csrf: document.querySelector('[name=csrf]').value, name: 'looked-at', revision: '1' });
    return (await fetch(path, { method: 'POST', body })).status;
  }, `/keys/${key.id}/revoke`);
  assert.equal(status, 403);
  assert.equal((await api(stack, 'GET', `/v1/keys/${key.id}`)).status, 'active');
  assert.deepEqual(consoleErrors, []);
  await context.close();
});

test('a session ends with its token, and signing in returns to the same page', async () => {
  const made = await api(stack, 'POST', '/v1/tokens', { name: 'leaver', role: 'admin' });
  const { context, page } = await openPage(browser, stack);
  await signIn(page, made.secret, '/keys?status=active');
  assert.equal(new URL(page.url()).search, '?status=active');
  await api(stack, 'DELETE', `/v1/tokens/${made.token.id}`);
  await page.reload();
  await page.getByText('Your session has ended').waitFor();
  await page.getByLabel('Token').fill(made.secret);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('does not exist or was revoked').waitFor();
  await page.getByLabel('Token').fill(stack.owner);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL('**/keys?status=active');
  await context.close();
});

test('signing out ends this session, or all sessions of the token', async () => {
  const [one, two] = [await openPage(browser, stack), await openPage(browser, stack)];
  await signIn(one.page, stack.owner);
  await signIn(two.page, stack.owner);
  await one.page.locator('.account summary').click();
  await one.page.getByRole('button', { name: 'Sign out', exact: true }).click();
  await one.page.getByText('You are signed out.').waitFor();
  await one.page.goto('/keys');
  assert.equal(new URL(one.page.url()).pathname, '/sign-in');
  await two.page.goto('/keys');
  assert.equal(new URL(two.page.url()).pathname, '/keys');
  await signIn(one.page, stack.owner);
  await one.page.goto('/settings');
  await one.page.getByRole('main').getByRole('button', { name: 'Sign out everywhere' }).click();
  await two.page.reload();
  assert.equal(new URL(two.page.url()).pathname, '/sign-in');
  await one.context.close();
  await two.context.close();
});

test('tokens are created, shown once, and revoked by name', async () => {
  const { context, page, consoleErrors } = await openPage(browser, stack);
  await signIn(page, stack.owner, '/tokens');
  await page.getByRole('link', { name: 'New token' }).click();
  await page.getByRole('button', { name: 'Create token' }).click();
  await page.locator('#name-error:not(:empty)').waitFor();
  await page.getByLabel('Name', { exact: true }).fill('edge two');
  await page.getByRole('radio', { name: /^gateway/ }).check();
  await page.getByRole('button', { name: 'Create token' }).click();
  const secret = await page.locator('#secret').innerText();
  const other = await openPage(browser, stack);
  await other.page.goto('/');
  await other.page.getByLabel('Token').fill(secret);
  await other.page.getByRole('button', { name: 'Sign in' }).click();
  await other.page.getByText('cannot sign in').waitFor();
  await other.context.close();
  await page.reload();
  await page.getByText('The token was shown once').waitFor();
  await page.getByRole('link', { name: 'View tokens' }).click();
  await page.getByRole('link', { name: 'Revoke edge two' }).click();
  await page.getByLabel('to confirm').fill('edge two');
  await page.getByRole('button', { name: 'Revoke' }).click();
  await page.waitForURL('**/tokens');
  assert.equal(await page.getByText('edge two').count(), 0);
  assert.deepEqual(consoleErrors, []);
  await context.close();
});

test('the theme is selected without a script, and kept', async () => {
  const { context, page } = await openPage(browser, stack, { scripts: false });
  await page.goto('/sign-in');
  await page.getByRole('button', { name: 'Dark' }).click();
  assert.equal(await page.locator('html').getAttribute('data-theme'), 'dark');
  await signIn(page, stack.owner);
  assert.equal(await page.locator('html').getAttribute('data-theme'), 'dark');
  await page.locator('.account summary').click();
  assert.equal(await page.getByRole('button', { name: 'Dark' }).getAttribute('aria-pressed'), 'true');
  await context.close();
});
