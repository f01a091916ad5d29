/** What statfs(2) tells, and how often the master is asked for it. */
import t from 'tap';
import type { MasterSession } from '../../client/index.js';
import { Room } from '../../fuse-client/room.js';

t.test('statfs: is asked for once a second at most, and divided by the replicas of a file', async (t) => {
  let nowMs = 5_000;
  let asked = 0;
  let availableBytes = 3 * 4096 * 10;
  const query = async () => {
    asked++;
    return { goal: 3, totalBytes: 3 * 4096 * 20, availableBytes, files: 7 };
  };
  const clock = { monotonicMs: () => nowMs, wallTime: () => ({ sec: 0, nsec: 0 }) };
  const room = new Room({ query } as unknown as Pick<MasterSession, 'query'>, clock);
  t.match(await room.tell({}), {
    blockBytes: 4096,
    blocks: 20,
    blocksAvailable: 10,
    files: 17,
    filesFree: 10,
  });
  availableBytes /= 2;
  nowMs += 999;
  t.match(await room.tell({}), { blocksAvailable: 10 });
  t.equal(asked, 1);
  nowMs += 1;
  t.match(await room.tell({}), { blocksAvailable: 5 });
  t.equal(asked, 2);
});

t.test(
  'fallocate: ENOSPC at once where the servers have no room for it, with the copies of that file',
  async (t) => {
    let available = 3_000;
    let settled = true;
    const asked: string[] = [];
    const query = async ({ name }: { name: string }) => {
      asked.push(name);
      if (name === 'getGoal') return { goal: 2, own: true };
      return { goal: 3, totalBytes: 9_000, availableBytes: available, files: 0, settled };
    };
    const clock = { monotonicMs: () => 0, wallTime: () => ({ sec: 0, nsec: 0 }) };
    const room = new Room({ query } as unknown as Pick<MasterSession, 'query'>, clock);
    await room.require(1_000, 7, {});
    await room.require(500, 7, {});
    t.strictSame(asked, ['statCluster'], 'where there is room enough it costs no message');
    await room.require(1_500, 7, {});
    t.strictSame(asked.splice(1), ['statCluster', 'getGoal'], 'this file has two copies');
    await t.rejects(room.require(1_501, 7, {}), { code: 'NO_SPACE' });
    available = 6_000;
    await room.require(3_000, 7, {});
    t.pass('what was known is asked for again before anybody is refused');
    settled = false;
    await room.require(1e15, 7, {});
    t.pass('and nobody is while servers that the master knew may come back');
  },
);
