/** Short runs of whole clusters; longer ones by `npm run sim`. A seed that fails here fails there. */
import t from 'tap';
import { FAULTS, type Fault } from './faults.js';
import { type SimulationOptions, simulate } from './simulation.js';

async function check(options: SimulationOptions): Promise<void> {
  const result = await simulate(options);
  if (result.violation !== undefined) t.comment((result.lastLines ?? []).join('\n'));
  t.equal(result.violation, undefined, `seed ${options.seed} breaks no contract`);
  t.ok(result.succeeded > 50, `seed ${options.seed} did something: ${result.succeeded} operations`);
}

t.test('simulator: one seed is one run', async (t) => {
  const runs = [];
  for (let i = 0; i < 2; i++)
    runs.push(await simulate({ seed: 1, durationMs: 4_000, faults: ['kill', 'cut'] }));
  t.equal(runs[0]?.digest, runs[1]?.digest);
  const other = await simulate({ seed: 2, durationMs: 4_000, faults: ['kill', 'cut'] });
  t.not(other.digest, runs[0]?.digest);
});

t.test('simulator: where nothing breaks nothing fails', async () => {
  for (const seed of [101, 102]) await check({ seed, durationMs: 10_000, faults: [] });
});

t.test('simulator: each kind of fault alone breaks no contract', async () => {
  for (const [index, fault] of FAULTS.entries()) {
    await check({ seed: 201 + index, durationMs: 10_000, faults: [fault as Fault] });
  }
});

t.test('simulator: faults together break no contract', async () => {
  for (let seed = 301; seed <= 312; seed++) await check({ seed, durationMs: 10_000 });
});
