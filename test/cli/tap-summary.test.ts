/** What `npm test` counts: a mistake here would call a red run green. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import t from 'tap';

interface Summary {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  push(text: string): void;
  end(): void;
  fail(reason: string): void;
}

/** The script is not compiled: it lies beside the sources. */
async function makeSummary(lines: string[]): Promise<Summary> {
  let at = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(at, 'scripts/tap-summary.mjs'))) at = dirname(at);
  const { TapSummary } = (await import(pathToFileURL(join(at, 'scripts/tap-summary.mjs')).href)) as {
    TapSummary: new (print: (line: string) => void) => Summary;
  };
  return new TapSummary((line) => lines.push(line));
}

async function summarise(text: string) {
  const lines: string[] = [];
  const summary = await makeSummary(lines);
  // In pieces: a pipe knows no lines.
  for (let at = 0; at < text.length; at += 7) summary.push(text.slice(at, at + 7));
  summary.end();
  const { passed, failed, skipped } = summary;
  return { counts: { passed, failed, skipped }, lines };
}

const good = `# Subtest: dist/test/a.test.js
    # Subtest: area: one
        ok 1 - should be equal
        not ok 2 - an assertion within is not a test # TODO
        1..2
    ok 1 - area: one # time=2ms
    
    ok 2 - area: two # SKIP no fuse
    1..2
    # time=9ms
ok 1 - dist/test/a.test.js # time=9ms
`;

t.test('npm test: tests are counted, not assertions; a file that passes takes one line', async (t) => {
  const { counts, lines } = await summarise(`TAP version 14\n${good}\n1..1\n`);
  t.same(counts, { passed: 1, failed: 0, skipped: 1 });
  t.same(lines, ['ok     test/a.test.js: 1 passed, 1 skipped, 0.0 s']);
});

t.test('npm test: a test that fails is counted and shown whole', async (t) => {
  const { counts, lines } = await summarise(
    `${good}# Subtest: dist/test/b.test.js
    # Subtest: area: bad
        not ok 1 - should be equal
          ---
          found: 1
          ...
        1..1
    not ok 1 - area: bad # time=2ms
    ok 2 - area: good # time=2ms
    1..2
not ok 2 - dist/test/b.test.js # time=1500ms
`,
  );
  t.same(counts, { passed: 2, failed: 1, skipped: 1 });
  t.ok(lines.includes('          found: 1'));
  t.equal(lines.at(-1), 'FAILED test/b.test.js: 1 passed, 1 FAILED, 1.5 s');
});

t.test('npm test: a file that crashes fails, though none of its tests did', async (t) => {
  const { counts } = await summarise(
    `    ok 1 - area: good # time=2ms\nnot ok 1 - dist/test/c.test.js # time=2ms\n`,
  );
  t.same(counts, { passed: 1, failed: 1, skipped: 0 });
});

t.test('npm test: output that breaks off is a failure', async (t) => {
  const { counts, lines } = await summarise(
    '# Subtest: dist/test/d.test.js\n    ok 1 - area: good # time=2ms\n',
  );
  t.same(counts, { passed: 1, failed: 1, skipped: 0 });
  t.match(lines.at(-1), /test\/d\.test\.js \(it did not end\): 1 passed, 1 FAILED/);
});

t.test('npm test: after a timeout tap gives the last file no result of its own', async (t) => {
  const { counts, lines } = await summarise(
    'not ok 1 - dist/test/e.test.js # time=3000ms\n' +
      '# Subtest: dist/test/f.test.js\n    ok 1 - area: good # time=2ms\nnot ok 2 - timeout!\n',
  );
  t.same(counts, { passed: 1, failed: 1, skipped: 0 });
  t.same(lines.at(-1), 'ok     test/f.test.js: 1 passed');
});
