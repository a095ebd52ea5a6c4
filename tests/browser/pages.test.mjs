// What holds for every page: nothing serious for axe, the same without scripts, stored markup stays text, and each page of
// the navigation is looked at.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { axe, launch, signIn, openPage } from './browser.mjs';
import { PAGES, fill } from './pages.mjs';
import { startStack } from './stack.mjs';

let browser, stack, ids;
before(async () => {
  [browser, stack] = await Promise.all([launch(), startStack()]);
  ids = await fill(stack);
});
after(async () => {
  await browser?.close();
  await stack?.stop();
});

async function everyPage(options, look) {
  const { context, page, consoleErrors } = await openPage(browser, stack, options);
  await page.goto('/sign-in');
  await look(page, { name: 'sign-in' });
  await signIn(page, stack.owner);
  for (const one of PAGES) {
    await page.goto(one.path(ids));
    await look(page, one);
  }
  await context.close();
  return consoleErrors;
}

for (const theme of ['light', 'dark']) {
  for (const width of [360, 1280]) {
    test(`axe finds nothing serious: ${theme}, ${width} px`, async () => {
      const found = [];
      const consoleErrors = await everyPage({ theme, width }, async (page, { name }) => {
        await page.evaluate(() => document.querySelectorAll('main details').forEach((details) => { details.open = true; }));
        for (const what of await axe(page)) found.push(`${name}: ${what}`);
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        if (wider > 0) found.push(`${name} is ${wider} px wider than the window`);
      });
      assert.deepEqual(found, []);
      assert.deepEqual(consoleErrors, []);
    });
  }
}

test('every page says the same without scripts', async () => {
  const words = async (page) => {
    await page.locator('main time').evaluateAll((times) => times.forEach((time) => { time.textContent = 'then'; }));
    const text = await page.locator('main').innerText();
    // Times are shown in the reader's zone by the script, and pass meanwhile.
    return text.replaceAll(/\d+/g, '0').replaceAll(/(CET|CEST|UTC|GMT\+0|AM|PM)/g, '').replaceAll(/[\s,./-]+/g, ' ');
  };
  const [withScripts, without] = [new Map(), new Map()];
  assert.deepEqual(await everyPage({}, async (page, { name }) => {
    // What a script adds are buttons that only it can do anything with.
    await page.evaluate(() => document.querySelectorAll('button[data-copy], button[data-tail]').forEach((button) => button.remove()));
    withScripts.set(name, await words(page));
  }), []);
  assert.deepEqual(await everyPage({ scripts: false }, async (page, { name }) => {
    without.set(name, await words(page));
    assert.equal(await page.locator('main h1').count(), 1, name);
  }), []);
  for (const [name, text] of without) assert.equal(text, withScripts.get(name), name);
});

test('stored markup stays text on every page', async () => {
  let shown = 0;
  const consoleErrors = await everyPage({}, async (page, { name }) => {
    assert.doesNotMatch(await page.title(), /taken over/, name);
    assert.equal(await page.locator('main script, main img[onerror]').count(), 0, name);
    if ((await page.locator('main').innerText()).includes('<script>document.title')) shown += 1;
  });
  assert.deepEqual(consoleErrors, []);
  assert.ok(shown >= 2, `it was shown on ${shown} pages only: the test would not see it`);
});

test('every section of the navigation is among the pages that are looked at', async () => {
  const { context, page } = await openPage(browser, stack);
  await signIn(page, stack.owner);
  const sections = await page.locator('nav[aria-label="Sections"] a').evaluateAll(
    (links) => links.map((link) => new URL(link.href).pathname),
  );
  const known = new Set(PAGES.map(({ section }) => section));
  assert.deepEqual(sections.filter((section) => !known.has(section)), []);
  await context.close();
});

test('every page is walked by keyboard, and what has the focus is seen', async () => {
  const unseen = [];
  await everyPage({}, async (page, { name }) => {
    await page.locator('body').press('Tab');
    for (let step = 0; step < 25; step += 1) {
      const found = await page.evaluate(() => {
        const element = document.activeElement;
        if (!element || element === document.body) return null;
        const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element);
        const box = element.getBoundingClientRect();
        const outlined = (outlineStyle !== 'none' && parseFloat(outlineWidth) > 0) || boxShadow !== 'none';
        return { html: element.outerHTML.slice(0, 90), seen: outlined && box.width > 0 && box.height > 0 };
      });
      if (!found) break;
      if (!found.seen) unseen.push(`${name}: ${found.html}`);
      await page.keyboard.press('Tab');
    }
  });
  assert.deepEqual(unseen, []);
});
