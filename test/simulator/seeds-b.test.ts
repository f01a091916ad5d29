/** One half of the short seeds, so that both can run at once. */
import t from 'tap';
import { checkSeeds } from './short-seeds.js';

/** On a busy machine. */
t.setTimeout(600_000);

t.test('simulator: faults and limits that the seed chooses break no contract, from seed 2001 on', (t) =>
  checkSeeds(t, 2001, 100),
);
