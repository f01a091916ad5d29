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
