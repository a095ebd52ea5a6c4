// Pictures of pages. `node screenshots.mjs FOLDER` makes all, in both themes and two widths, to be looked at;
// `node screenshots.mjs --docs FOLDER` the few that the documentation shows.
import { mkdir } from 'node:fs/promises';
import path from 'node:path';

import { launch, signIn, openPage } from './browser.mjs';
import { PAGES, fill } from './pages.mjs';
import { api, call, eventually, startStack } from './stack.mjs';

const forDocs = process.argv[2] === '--docs';
const folder = process.argv[forDocs ? 3 : 2];
if (!folder) throw new Error('which folder?');
await mkdir(folder, { recursive: true });

const [browser, stack] = await Promise.all([launch(), startStack()]);
try {
  const ids = await fill(stack, forDocs ? 'Keeps the CRM in step' : undefined);
  for (const theme of forDocs ? ['light'] : ['light', 'dark']) {
    for (const width of forDocs ? [1280] : [360, 1280]) {
      const { context, page } = await openPage(browser, stack, { theme, width });
      const shoot = async (name) => {
        await page.screenshot({ path: path.join(folder, forDocs ? `${name}.png` : `${name}-${theme}-${width}.png`), fullPage: !forDocs });
      };
      if (!forDocs) {
        await page.goto('/sign-in');
        await shoot('sign-in');
        await page.getByLabel('Token').fill('omf_token_wrong');
        await page.getByRole('button', { name: 'Sign in' }).click();
        await shoot('sign-in-wrong');
      }
      await signIn(page, stack.owner);
      for (const one of PAGES.filter(({ docs }) => docs || !forDocs)) {
        await page.goto(one.path(ids));
        await shoot(one.name);
      }
      if (!forDocs) {
        const name = `${theme}-${width}`;
        await keyStates(page, shoot, name, ids);
        await otherStates(page, shoot, name, ids);
        await sessionStates(context, page, shoot, name);
        await auditorStates(page, shoot, ids);
      }
      await context.close();
    }
  }
} finally {
  await browser.close();
  await stack.stop();
}

/** What is seen only on the way from a new key to its change. */
async function keyStates(page, shoot, name, ids) {
  await page.goto('/keys/new');
  await page.getByLabel('Name', { exact: true }).fill(`new ${name}`);
  await page.getByRole('checkbox', { name: /^contacts:read/ }).check();
  await page.getByLabel('IP allowlist').fill('10.0.0.1/8');
  await page.getByRole('button', { name: 'Review' }).last().click();
  await shoot('key-new-wrong');
  await page.getByLabel('IP allowlist').fill('10.0.0.0/8');
  await page.getByRole('button', { name: 'Review' }).last().click();
  await shoot('key-review');
  await page.getByRole('button', { name: 'Create key' }).click();
  await shoot('key-secret');
  await page.reload();
  await shoot('key-secret-again');
  await page.goto(`/keys/${ids.rotated}`);
  await page.getByText('Edit settings').click();
  await shoot('key-change');
  await page.getByLabel('Description').fill('mine');
  await api(stack, 'PATCH', `/v1/keys/${ids.rotated}`, { description: `theirs, ${name}`, rate_limit: { per_minute: 7 } });
  await page.getByRole('button', { name: 'Save' }).last().click();
  await shoot('key-changed-by-others');
  await page.goto(`/keys/${ids.rotated}/revoke`);
  await page.getByLabel('to confirm').fill('something else');
  await page.getByRole('button', { name: 'Revoke' }).click();
  await shoot('key-revoke-wrong');
}

/** The same of all other pages. */
async function otherStates(page, shoot, name, ids) {
  await page.goto('/tokens/new');
  await page.getByRole('button', { name: 'Create token' }).click();
  await shoot('token-new-wrong');
  await page.getByLabel('Name', { exact: true }).fill(`edge ${name}`);
  await page.getByRole('radio', { name: /^gateway/ }).check();
  await page.getByRole('button', { name: 'Create token' }).click();
  await shoot('token-secret');

  const leaked = await api(stack, 'POST', '/v1/keys', { name: `leaked ${name}`, environment: 'live', scopes: ['contacts:read'] });
  await page.goto('/anomalies/leak');
  await page.getByLabel('Secret, or text to search').fill('nothing that is a secret');
  await page.getByRole('button', { name: 'Submit report' }).click();
  await shoot('leak-none');
  await page.goto('/anomalies/leak');
  await page.getByLabel('Secret, or text to search').fill(`log line\nauthorization: Bearer ${leaked.secret}\nend`);
  await page.getByText('Create a replacement key').click();
  await page.getByRole('button', { name: 'Submit report' }).click();
  await page.getByRole('heading', { name: /1 of 1 gateway/ }).waitFor();
  await shoot('leak-found');
  await call(stack, leaked.secret, '/api/v1/contacts');
  await eventually('the use of the revoked key is found', async () => (
    await page.goto('/anomalies'), page.getByText(new RegExp(`leaked ${name} was used`)).count()
  ), 40);
  await shoot('anomalies-found');

  await page.goto('/policy/draft');
  const area = page.getByLabel('Draft (JSON)');
  const text = await area.inputValue();
  await area.fill(text.replace('"scopes": [', '"scopes": [,'));
  await page.getByRole('button', { name: 'Review changes' }).click();
  await shoot('policy-draft-wrong');
  const document = JSON.parse(text);
  document.routes = document.routes.filter(({ path, methods }) => path !== '/api/v1/contacts' || !methods.includes('read'));
  await area.fill(JSON.stringify(document, null, 2));
  await page.getByRole('button', { name: 'Test against past calls' }).click();
  await page.getByRole('heading', { name: /would be refused/ }).waitFor();
  await shoot('policy-draft-dry-run');
  await page.getByRole('button', { name: 'Publish' }).click();
  await page.getByRole('heading', { name: /1 of 1 gateway/ }).waitFor();
  await shoot('policy-published');
  await api(stack, 'PUT', '/v1/policy?wait=5s', JSON.parse(text));
}

/** What is seen of a session at its end. */
async function sessionStates(context, page, shoot, name) {
  await page.goto('/keys');
  await page.locator('.account summary').click();
  await page.screenshot({ path: path.join(folder, `account-${name}.png`) });
  await page.goto('/keys/new');
  await page.getByLabel('Name', { exact: true }).fill(`left ${name}`);
  await page.getByRole('checkbox', { name: /^contacts:read/ }).check();
  await context.clearCookies({ name: /session/ });
  await page.getByRole('button', { name: 'Review' }).last().click();
  await shoot('session-ended');
  await page.getByLabel('Token').fill(stack.owner);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await shoot('session-send-again');
  await page.goto('/keys');
  await page.locator('.account summary').click();
  await page.getByRole('button', { name: 'Sign out', exact: true }).click();
  await shoot('signed-out');
}

/** What an auditor sees that is signed in in the place of the owner. */
async function auditorStates(page, shoot, ids) {
  await signIn(page, ids.auditor, `/audit/${ids.sent}`);
  await page.getByRole('button', { name: 'View payload (recorded)' }).click();
  await shoot('record-payload');
  for (const [name, to] of [['key', `/keys/${ids.key}`], ['policy-draft', '/policy/draft'], ['not-allowed', '/tokens']]) {
    await page.goto(to);
    await shoot(`auditor-${name}`);
  }
}
