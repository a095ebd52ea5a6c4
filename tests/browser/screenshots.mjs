// Pictures of pages. `node screenshots.mjs FOLDER` makes all, in both themes and two widths, to be looked at;
// `node screenshots.mjs --docs FOLDER` the few that the documentation shows.
import { mkdir } from 'node:fs/promises';
import path from 'node:path';

import { launch, signIn, visitor } from './browser.mjs';
import { PAGES, fill } from './pages.mjs';
import { startStack } from './stack.mjs';

const forDocs = process.argv[2] === '--docs';
const folder = process.argv[forDocs ? 3 : 2];
if (!folder) throw new Error('which folder?');
await mkdir(folder, { recursive: true });

const [browser, stack] = await Promise.all([launch(), startStack()]);
try {
  const ids = await fill(stack, forDocs ? 'Keeps the CRM in step' : undefined);
  for (const theme of forDocs ? ['light'] : ['light', 'dark']) {
    for (const width of forDocs ? [1280] : [360, 1280]) {
      const { context, page } = await visitor(browser, stack, { theme, width });
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
      if (!forDocs) await states(page, shoot, `${theme}-${width}`, ids);
      await context.close();
    }
  }
} finally {
  await browser.close();
  await stack.stop();
}

/** What is seen only on the way. */
async function states(page, shoot, name, ids) {
  await page.goto('/keys/new');
  await page.getByLabel('Name', { exact: true }).fill(`new ${name}`);
  await page.getByRole('checkbox', { name: /^contacts:read/ }).check();
  await page.getByLabel('Addresses and networks').fill('10.0.0.1/8');
  await page.getByRole('button', { name: 'Review' }).last().click();
  await shoot('key-new-wrong');
  await page.getByLabel('Addresses and networks').fill('10.0.0.0/8');
  await page.getByRole('button', { name: 'Review' }).last().click();
  await shoot('key-review');
  await page.getByRole('button', { name: 'Create key' }).click();
  await shoot('key-secret');
  await page.reload();
  await shoot('key-secret-again');
  await page.goto(`/keys/${ids.rotated}`);
  await page.getByText('Change settings').click();
  await shoot('key-change');
  await page.locator('.account summary').click();
  await page.screenshot({ path: path.join(folder, `account-${name}.png`) });
}
