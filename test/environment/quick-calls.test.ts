/** When calls of the disk are made at once rather than by a thread. */
import t from 'tap';
import { QuickCalls } from '../../environment/node/quick-calls.js';

/** How many calls go to threads before one is due again. */
function leftToThreads(quick: QuickCalls): number {
  let count = 0;
  while (!quick.areDue) count++;
  return count;
}

t.test('quick calls: after one that took long the next go to threads, more each time', async (t) => {
  const quick = new QuickCalls(1, 64);
  t.ok(quick.areDue, 'nothing is known yet');
  quick.note(0.1);
  t.ok(quick.areDue);
  for (const count of [64, 128, 256, 512, 1024, 1024]) {
    quick.note(5);
    t.equal(leftToThreads(quick), count);
  }
});

t.test('quick calls: quick ones are trusted again, step by step', async (t) => {
  const quick = new QuickCalls(1, 64);
  quick.note(5);
  leftToThreads(quick);
  quick.note(5);
  t.equal(leftToThreads(quick), 128);
  for (let count = 0; count < 3; count++) quick.note(0.1);
  t.ok(quick.areDue, 'at once meanwhile');
  quick.note(5);
  t.equal(leftToThreads(quick), 64, 'as in the beginning');
});
