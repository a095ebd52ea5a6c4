// What people find and resolve: a call in the audit log and what it sent, a leaked key by its anomaly and by its secret,
// a policy from its draft to its way back, and an auditor who looks at all of it.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';

import { launch, signIn, openPage } from './browser.mjs';
import { api, call, eventually, startStack } from './stack.mjs';

let browser, stack, auditor;
before(async () => {
  [browser, stack] = await Promise.all([launch(), startStack()]);
  auditor = (await api(stack, 'POST', '/v1/tokens', { name: 'the auditor', role: 'auditor' })).secret;
});
after(async () => {
  await browser?.close();
  await stack?.stop();
});

const CONTACTS = '/api/v1/contacts';

/** A key that gateways know. */
async function key(name, scopes = ['contacts:read', 'contacts:write']) {
  const made = await api(stack, 'POST', '/v1/keys', { name, environment: 'live', scopes });
  await eventually('the gateway knows the key', async () => await call(stack, made.secret, CONTACTS) === 200);
  return made;
}

const recorded = (search, count) => eventually(`${count} calls of ${search}`, async () => (
  (await api(stack, 'GET', `/v1/audit?${search}`)).items.length >= count
));

for (const scripts of [true, false]) {
  test(`a call is found by its links, and its payload is viewed in a separate step${scripts ? '' : ', without scripts'}`, async () => {
    const name = scripts ? 'crm-sync' : 'plain-sync';
    const { secret } = await key(name);
    assert.equal(await call(stack, secret, `${CONTACTS}?notify=true`, 'POST', { name: 'Ada <b>' }), 200);
    await call(stack, secret, '/api/v1/tickets');
    await recorded(`key=${name}`, 3);

    const { context, page, consoleErrors } = await openPage(browser, stack, { scripts });
    await signIn(page, auditor, '/audit');
    await page.getByRole('link', { name, exact: true }).first().click();
    await page.getByRole('link', { name: 'Allowed' }).click();
    assert.match(page.url(), /\/audit\?key=[0-9a-f-]{36}&decision=allowed$/);
    assert.equal(await page.locator('.calls tbody tr').count(), 2, 'the refused one is not among them');
    const times = page.locator('svg[aria-label="Calls by status over time"] a');
    await page.goto(await times.last().getAttribute('href'));
    assert.match(page.url(), /from=.*&to=/);

    await page.locator('.calls tbody tr', { hasText: 'POST' }).getByRole('link').first().click();
    await page.getByRole('heading', { name: `POST ${CONTACTS}` }).waitFor();
    assert.ok(!(await page.content()).includes('notify=true'), 'the payload is not shown before it is requested');
    await page.getByRole('button', { name: 'View payload (recorded)' }).click();
    await page.getByText('notify=true').waitFor();
    assert.equal(await page.getByLabel('Body').innerText(), '{"name":"Ada <b>"}');
    await page.getByRole('link', { name: 'admin log', exact: true }).click();
    const log = page.locator('.admin-log');
    assert.match(await log.innerText(), /the auditor viewed a payload/);

    await page.goto(`/audit?key=${name}`);
    for (const [format, check] of [
      ['CSV', (text) => assert.equal(text.trim().split('\r\n').length, 4)],
      ['NDJSON', (text) => assert.ok(text.trim().split('\n').every((line) => JSON.parse(line).key_name === name))],
    ]) {
      const [file] = await Promise.all([
        page.waitForEvent('download'), page.getByRole('link', { name: `Export ${format}` }).click(),
      ]);
      check(await readFile(await file.path(), 'utf8'));
    }
    assert.deepEqual(consoleErrors, []);
    await context.close();
  });
}

test('new calls are shown as they arrive, and an invalid search has an error at its field', async () => {
  const { secret } = await key('tailed');
  await recorded('key=tailed', 1);
  const { context, page, consoleErrors } = await openPage(browser, stack);
  await signIn(page, stack.owner, '/audit?key=tailed');
  const rows = page.locator('.calls tbody tr');
  const before = await rows.count();
  await page.getByRole('button', { name: 'Live' }).click();
  assert.equal(await call(stack, secret, '/api/v1/contacts/live-one'), 200);
  await rows.filter({ hasText: '/api/v1/contacts/live-one' }).waitFor();
  await page.getByText('1 new call', { exact: true }).waitFor({ state: 'attached' });
  await page.getByRole('button', { name: 'Live' }).click();
  assert.equal(await page.getByRole('button', { name: 'Live' }).getAttribute('aria-pressed'), 'false');
  assert.equal(await rows.count(), before + 1);

  await page.getByLabel('IP address').fill('203.0.113');
  await page.getByRole('button', { name: 'Apply' }).click();
  const address = page.getByLabel('IP address');
  assert.equal(await address.getAttribute('aria-invalid'), 'true');
  assert.equal(await address.inputValue(), '203.0.113');
  assert.match(await page.locator('.field.wrong .error').innerText(), /address or a network/);
  assert.equal(await page.getByLabel('Key', { exact: true }).inputValue(), 'tailed');
  assert.deepEqual(consoleErrors, []);
  await context.close();
});

test('a leaked key is found by its anomaly and in a pasted text', async () => {
  const leaked = await key('leaked');
  const { context, page, consoleErrors } = await openPage(browser, stack);
  await signIn(page, stack.owner, '/anomalies/leak');
  await page.getByLabel('Secret, or text to search').fill(`log line\nauthorization: Bearer ${leaked.secret}\nend`);
  await page.getByText('Create a replacement key').click();
  await page.getByRole('button', { name: 'Submit report' }).click();
  await page.getByRole('heading', { name: '1 key found' }).waitFor();
  await page.getByRole('heading', { name: /1 of 1 gateway, \d+ ms/ }).waitFor();
  assert.ok(!(await page.content()).includes(leaked.secret));
  const next = await page.locator('[data-secret]').innerText();
  assert.equal(await call(stack, leaked.secret, CONTACTS), 401);
  await eventually('the replacement key works', async () => await call(stack, next, CONTACTS) === 200);

  await eventually('the use of the revoked key is found', async () => {
    await page.goto('/anomalies');
    return page.getByText(/leaked was used (once|\d+ times) after it was revoked/).count();
  }, 40);
  await page.getByRole('link', { name: 'View calls of leaked' }).first().click();
  await page.locator('.calls').getByText('key_revoked').first().waitFor();
  assert.deepEqual(consoleErrors, []);
  await context.close();
});

test('a policy is drafted, corrected, tested, published and rolled back', async () => {
  const { secret } = await key('dry-run');
  for (let n = 0; n < 4; n += 1) await call(stack, secret, CONTACTS);
  await recorded('key=dry-run', 5);
  const { context, page, consoleErrors } = await openPage(browser, stack);
  await signIn(page, stack.owner, '/policy');
  await page.getByRole('link', { name: 'Edit policy' }).click();
  const area = page.getByLabel('Draft (JSON)');
  const text = await area.inputValue();
  const first = (await api(stack, 'GET', '/v1/policy')).version;

  await area.fill(text.replace('"scopes": [', '"scopes": [,'));
  await page.getByRole('button', { name: 'Review changes' }).click();
  await page.getByText('Line 3', { exact: true }).waitFor();
  assert.ok((await area.inputValue()).includes('"scopes": [,'), 'nothing typed is lost');
  assert.equal(await area.evaluate((field) => field.value.slice(field.selectionStart, field.selectionEnd).trim()), '"scopes": [,');

  const document = JSON.parse(text);
  document.routes = document.routes.filter(({ path, methods }) => path !== CONTACTS || !methods.includes('read'));
  await area.fill(JSON.stringify(document, null, 2));
  await page.getByLabel('Key (optional)').fill('dry-run');
  await page.getByRole('button', { name: 'Test against past calls' }).click();
  await page.getByRole('heading', { name: '5 calls with 1 key would be refused' }).waitFor();
  await page.getByText(`read ${CONTACTS}`, { exact: true }).waitFor();
  await page.getByRole('button', { name: 'Publish' }).click();
  await page.getByRole('heading', { name: `Version ${first + 1} published` }).waitFor();
  await page.getByRole('heading', { name: /1 of 1 gateway, \d+ ms/ }).waitFor();
  assert.equal(await call(stack, secret, CONTACTS), 403, 'it is effective');

  await page.getByRole('link', { name: 'All versions' }).click();
  await page.getByRole('link', { name: `Version ${first}`, exact: true }).click();
  await page.getByRole('heading', { name: `Changes made by a rollback from version ${first + 1}` }).waitFor();
  await page.getByRole('button', { name: `Roll back to version ${first}` }).click();
  await page.getByRole('heading', { name: `Version ${first + 2} published` }).waitFor();
  assert.equal(await call(stack, secret, CONTACTS), 200, 'it is effective again');
  await page.goto('/admin-log?action=policy.rolled_back');
  assert.match(await page.locator('.admin-log').innerText(), /owner rolled back the policy: version/);
  assert.deepEqual(consoleErrors, []);
  await context.close();
});

test('a request is explained step by step, and gateways show their state', async () => {
  await key('tried', ['contacts:read']);
  const { context, page } = await openPage(browser, stack);
  await signIn(page, stack.owner, '/policy/explain');
  await page.getByLabel('Key', { exact: true }).fill('tried');
  await page.getByLabel('Path').fill('/api/v1/tickets');
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.getByRole('heading', { name: 'refused 403 insufficient_scope' }).waitFor();
  assert.equal(await page.locator('.steps li').count(), 7);
  await page.goto('/gateways');
  await page.getByRole('heading', { name: '1 of 1 in step' }).waitFor();
  await context.close();
});

test('an auditor can view everything and change nothing', async () => {
  const { context, page, consoleErrors } = await openPage(browser, stack);
  await signIn(page, auditor, '/policy/draft');
  const area = page.getByLabel('Draft (JSON)');
  const document = JSON.parse(await area.inputValue());
  document.routes.pop();
  await area.fill(JSON.stringify(document));
  await page.getByRole('button', { name: 'Review changes' }).click();
  await page.getByText(/0 added, \d+ removed, 0 changed/).waitFor();
  assert.equal(await page.getByRole('button', { name: 'Publish' }).count(), 0);
  await page.goto('/anomalies');
  assert.equal(await page.getByRole('link', { name: 'Report a leaked key' }).count(), 0);
  for (const path of ['/anomalies/leak', '/keys/new']) {
    assert.equal((await page.goto(path)).status(), 403, path);
  }
  for (const path of ['/audit', '/anomalies', '/admin-log', '/policy', '/policy/versions/1', '/gateways']) {
    assert.equal((await page.goto(path)).status(), 200, path);
    assert.equal(await page.locator('main form[method="post"]').count(), 0, path);
  }
  assert.deepEqual(consoleErrors, []);
  await context.close();
});
