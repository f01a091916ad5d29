/** Clients that are asked by the master for what they have not told yet, while they wait for it themselves. */
import t from 'tap';
import type { GfsClient } from '../../client/index.js';
import type { OpenFile } from '../../client/open-file.js';
import * as m from '../../protocol/messages/index.js';
import { startTwoClients } from './two-clients.js';

t.setTimeout(600_000);

let seed = 9600;
const BYTES = 4_096;
const LEASE_MS = 2_000;
/** Less than the master waits for a client that cannot tell. */
const SOON_MS = 5_000;
const ROUNDS = 3;

/** Two clients with one file open. */
async function setUp() {
  const { world, sleep, a, b } = await startTwoClients(seed++, { leaseDurationMs: LEASE_MS });
  const request = { parent: m.ROOT_ID, name: 'file', mode: 0o100644, rdev: 0, exclusive: true };
  const { attributes } = await world.until(a.master.mutate(m.Create, request));
  const open = (gfs: GfsClient) => world.until(gfs.open(attributes.id, {}));
  const files = [await open(a), await open(b)];
  const writeTo = (file: OpenFile, letter: number) =>
    file.write(files.indexOf(file) * BYTES, Buffer.alloc(BYTES, letter));
  return {
    attributes,
    /** Each may tell its changes late from now on. */
    begin: async () => {
      for (let i = 0; i < 4; i++) {
        for (const file of files) {
          await world.until(writeTo(file, i));
          await world.until(file.sync({}));
        }
      }
    },
    /** Data on its way for which a lease has to be asked for first. */
    write: async () => {
      await sleep(2 * LEASE_MS);
      for (const file of files) await world.until(writeTo(file, 9));
    },
    /** @returns how long it took both */
    both: async (work: (file: OpenFile) => Promise<unknown>) => {
      const startMs = world.scheduler.nowMs;
      await world.until(Promise.all(files.map(work)));
      return world.scheduler.nowMs - startMs;
    },
  };
}

t.test('leases: two clients that fsync one file do not wait for each other', async (t) => {
  const { begin, write, both, attributes } = await setUp();
  for (let round = 0; round < ROUNDS; round++) {
    await begin();
    await write();
    const tookMs = await both((file) => {
      // Somebody here has seen the time: the master is told before the data is there.
      file.noteAttributes(attributes);
      return file.sync({});
    });
    t.ok(tookMs < SOON_MS, `${tookMs} ms`);
  }
});

t.test('leases: nor do two that change the attributes of a file with data on its way', async (t) => {
  const { begin, write, both } = await setUp();
  for (let round = 0; round < ROUNDS; round++) {
    await begin();
    await write();
    const tookMs = await both((file) => file.setAttributes({ mode: 0o100600 + round }, {}));
    t.ok(tookMs < SOON_MS, `${tookMs} ms`);
  }
});

t.test('leases: nor do two that cut one file', async (t) => {
  const { begin, both } = await setUp();
  for (let round = 0; round < ROUNDS; round++) {
    await begin();
    const tookMs = await both((file) => file.setAttributes({ size: 8 * BYTES }, {}));
    t.ok(tookMs < SOON_MS, `${tookMs} ms`);
  }
});
