import { readFile } from 'node:fs/promises';
import t from 'tap';

t.test('seed names: docs/formats/seed-names.md names tests that there are', async (t) => {
  const text = await readFile('docs/formats/seed-names.md', 'utf8');
  const rows = [...text.matchAll(/\| `([a-z-]+\/[a-z.-]+\.ts)`: (.+) \|$/gm)];
  t.ok(rows.length >= 20);
  t.equal(
    rows.length,
    text.split('\n').filter((line) => line.startsWith('| ')).length - 1,
    'every row has one',
  );
  for (const [, file, name] of rows) {
    const source = await readFile(`test/${file}`, 'utf8');
    t.ok(source.includes(name as string), `${file}: ${name}`);
  }
});
