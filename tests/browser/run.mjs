// Runs the tests of this folder one file after the other, and ends with the line that scripts/test.sh adds up.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { run } from 'node:test';
import { fileURLToPath } from 'node:url';

const folder = path.dirname(fileURLToPath(import.meta.url));
const wanted = process.argv.slice(2);
const files = readdirSync(folder)
  .filter((name) => name.endsWith('.test.mjs') && (wanted.length === 0 || wanted.some((word) => name.includes(word))))
  .sort()
  .map((name) => path.join(folder, name));

let passed = 0;
let failed = 0;
const reported = (data) => `${path.basename(data.file ?? '', '.test.mjs')}: ${data.name}`;

run({ files, concurrency: 1, timeout: 600_000 })
  .on('test:pass', (data) => {
    if (data.details.type === 'suite' || data.skip) return;
    passed += 1;
    console.log(`test ${reported(data)} ... ok (${Math.round(data.details.duration_ms)} ms)`);
  })
  .on('test:fail', (data) => {
    if (data.details.type === 'suite') return;
    failed += 1;
    const error = data.details.error;
    console.log(`test ${reported(data)} ... FAILED\n${error?.cause?.stack ?? error?.stack ?? error}`);
  })
  .on('test:stderr', (data) => process.stderr.write(data.message))
  .on('test:stdout', (data) => process.stdout.write(data.message))
  .once('end', () => {
    console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${passed} passed; ${failed} failed;`);
    process.exitCode = failed || !passed ? 1 : 0;
  })
  // Without it nobody takes what comes, and the end never does.
  .resume();
