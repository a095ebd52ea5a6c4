// A whole installation: control plane, two upstreams and Envoy, as the harness starts them.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const root = process.env.OMF_ROOT ?? path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const target = process.env.CARGO_TARGET_DIR ?? path.join(root, 'target');

/**
 * Starts one. `stop` ends it; it also ends when this process does. With an origin, its gateway allows the scripts of that
 * origin by the CORS configuration of envoy/operator.yaml.
 */
export async function startStack(origin) {
  const child = spawn(path.join(target, 'debug', 'omniflow-stack'), origin ? [origin] : [], {
    cwd: root,
    env: { ...process.env, OMF_ROOT: root },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout });
  const reported = Promise.race([
    once(lines, 'line').then(([line]) => JSON.parse(line)),
    once(child, 'exit').then(([code]) => { throw new Error(`omniflow-stack ended with ${code}`); }),
  ]);
  const stack = await reported;
  return {
    ...stack,
    async stop() {
      if (child.exitCode === null) {
        const ended = once(child, 'exit');
        child.stdin.end();
        await ended;
      }
    },
  };
}

/** Calls the control plane's API as the owner, or with another token. */
export async function api(stack, method, pathname, body, token = stack.owner) {
  const answer = await fetch(stack.control_plane + pathname, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${pathname}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

/** Calls an upstream through the gateway with a key, and sends `body` as JSON if there is one; gives the status. */
export async function call(stack, secret, pathname, method = 'GET', body = undefined) {
  const answer = await fetch(stack.gateway + pathname, {
    method,
    headers: { authorization: `Bearer ${secret}`, ...body && { 'content-type': 'application/json' } },
    body: body && JSON.stringify(body),
  });
  await answer.text();
  return answer.status;
}

/** Asks until `probe` gives something true, or says what was still missing after `seconds`. */
export async function eventually(what, probe, seconds = 20) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`after ${seconds} s still not: ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}
