/** Short runs of whole clusters; longer ones by `npm run sim`. A seed that fails here fails there. */
import t, { type Test } from 'tap';
import { FAULTS } from './faults.js';
import { type SimulationOptions, simulate } from './simulation.js';

/** On a busy machine. */
t.setTimeout(240_000);

const short = { durationMs: 3_000, settleMs: 3_000 };

async function check(t: Test, options: SimulationOptions): Promise<void> {
  const result = await simulate(options);
  if (result.violation !== undefined) t.comment((result.lastLines ?? []).join('\n'));
  t.equal(result.violation, undefined, `seed ${options.seed} breaks no contract`);
  t.ok(result.succeeded > 50, `seed ${options.seed} did something: ${result.succeeded} operations`);
}

t.test('simulator: one seed is one run', async (t) => {
  const options = { ...short, faults: ['kill', 'crash', 'cut'] as const };
  const runs = [await simulate({ ...options, seed: 1 }), await simulate({ ...options, seed: 1 })];
  t.equal(runs[0]?.digest, runs[1]?.digest);
  const other = await simulate({ ...options, seed: 2 });
  t.not(other.digest, runs[0]?.digest);
});

t.test('simulator: where nothing breaks nothing fails', async (t) => {
  await check(t, { ...short, seed: 101, faults: [] });
});

t.test('simulator: each kind of fault alone breaks no contract', async (t) => {
  for (const [index, fault] of FAULTS.entries())
    await check(t, { ...short, seed: 201 + index, faults: [fault] });
});

t.test('simulator: faults together break no contract', async (t) => {
  for (let seed = 301; seed <= 309; seed++) await check(t, { ...short, seed, faults: FAULTS });
});
