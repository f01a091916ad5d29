/** The simulator finds what it is there to find: each mutant within a few seeds. */
import t from 'tap';
import { mutants } from './mutants.js';
import { simulate } from './simulation.js';

/** On a busy machine. */
t.setTimeout(600_000);

/** One seed in six finds the hardest of them. */
const MAX_SEEDS = 40;

for (const { name, options, finds = /./, apply } of mutants) {
  t.test(`simulator: finds out that ${name}`, async (t) => {
    const mend = apply();
    t.teardown(mend);
    let found: string | undefined;
    let seed = 0;
    while (found === undefined && seed < MAX_SEEDS) {
      seed++;
      const result = await simulate({ seed, durationMs: 1_500, settleMs: 300, ...options });
      found = result.violation;
    }
    t.match(found, finds, `within ${seed} seeds: ${found?.slice(0, 200)}`);
  });
}
