/** What an fsync has to cover, with a real master: the table stays within its bound. */
import t from 'tap';
import { clientDefaults, defaultCacheLimits, GfsClient } from '../../client/index.js';
import * as m from '../../protocol/messages/index.js';
import { startTwoClients } from './two-clients.js';

t.setTimeout(600_000);

t.test('unsynced: chunks of files that are gone leave the table', async (t) => {
  const { world, sleep } = await startTwoClients(9500);
  const maxChunks = 4;
  const client = await world.until(
    GfsClient.connect(world.process('c').environment, {
      ...{ ...clientDefaults, masters: [{ host: 'master', port: 5000 }], caches: true },
      cacheLimits: { ...defaultCacheLimits, unsyncedChunks: maxChunks },
    }),
  );
  for (let i = 0; i < 40; i++) {
    const request = { parent: m.ROOT_ID, mode: 0o100644 };
    const { file } = await world.until(client.createTmpfile(request, {}));
    await world.until(file.write(0, Buffer.from('never flushed to disk')));
    await world.until(client.close(file));
    // Until the master has heard that nobody has it open any more.
    await sleep(5_000);
    t.ok(client.usage.unsyncedChunks <= 2 * maxChunks, `${client.usage.unsyncedChunks} after ${i}`);
  }
});
