/** Runs that last two simulated seconds: many of them find what few long ones would. */
import type { Test } from 'tap';
import { FAULTS } from './faults.js';
import { simulate } from './simulation.js';
import type { SimulationOptions, SimulationResult } from './simulation-options.js';

export const short = { warmUpMs: 300, durationMs: 700, settleMs: 200, meanIntervalMs: 200 };

export async function check(t: Test, options: SimulationOptions): Promise<SimulationResult> {
  const result = await simulate(options);
  if (result.violation !== undefined) t.comment((result.lastLines ?? []).join('\n'));
  t.equal(result.violation, undefined, `seed ${options.seed} breaks no contract`);
  return result;
}

/** As many seeds, from `first` on, with the faults and the limits that each chooses. */
export async function checkSeeds(t: Test, first: number, count: number): Promise<void> {
  const seen = new Set<string>();
  let succeeded = 0;
  for (let seed = first; seed < first + count; seed++) {
    const result = await check(t, { ...short, seed });
    for (const fault of Object.keys(result.faults)) seen.add(fault);
    succeeded += result.succeeded;
  }
  t.equal(seen.size, FAULTS.length, 'every kind of fault was among them');
  t.ok(succeeded > 50 * count, `${succeeded} operations`);
}
