// A real Chromium, and pages in it that tell whatever they should not do.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { chromium } from 'playwright-core';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

function executable() {
  const names = [process.env.OMF_CHROMIUM, 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
  for (const name of names.filter(Boolean)) {
    try {
      return execFileSync('/bin/sh', ['-c', 'command -v "$1"', 'sh', name], { encoding: 'utf8' }).trim();
    } catch { /* the next one */ }
  }
  throw new Error('no Chromium: scripts/setup-browser.sh');
}

export async function launch() {
  return chromium.launch({
    executablePath: executable(),
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
    ],
  });
}

/**
 * A person with a browser of their own. Whatever a page does against its policy, logs as an error, asks of another server
 * or fails at is in `consoleErrors`.
 */
export async function openPage(browser, stack, { scripts = true, theme = 'light', width = 1280 } = {}) {
  const context = await browser.newContext({
    baseURL: stack.control_plane,
    colorScheme: theme,
    javaScriptEnabled: scripts,
    locale: 'en-GB',
    timezoneId: 'Europe/Paris',
    viewport: { width, height: 900 },
    reducedMotion: 'reduce',
    acceptDownloads: true,
  });
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const consoleErrors = [];
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`);
    });
  });
  context.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol.startsWith('http') && origin !== stack.control_plane) consoleErrors.push(`asked ${request.url()}`);
  });
  context.on('weberror', (error) => consoleErrors.push(`threw ${error.error()}`));
  context.on('console', (message) => {
    // A form that is refused is reported by its status, which browsers log.
    const expected = /the server responded with a status of 4\d\d/.test(message.text());
    if (message.type() === 'error' && !expected) consoleErrors.push(`logged ${message.text()}`);
  });
  const page = await context.newPage();
  return { context, page, consoleErrors };
}

export async function signIn(page, token, to = '/') {
  await page.goto(to);
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL((url) => url.pathname !== '/sign-in');
}

/** What axe finds that is serious, in words. */
export async function axe(page) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
  }));
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(' | ')}`);
}
