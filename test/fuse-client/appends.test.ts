/** O_APPEND through a mount where another client's append came first: what the kernel and users are told. */
import t from 'tap';
import type { GfsClient } from '../../client/index.js';
import type { OpenFileParts } from '../../client/open-file.js';
import { GfsFiles } from '../../fuse-client/gfs-files.js';
import { OpenFlags } from '../../fuse-client/handler.js';
import { InodeMap } from '../../fuse-client/inodes.js';
import { mountDefaults } from '../../fuse-client/options.js';
import { Powers } from '../../fuse-client/powers.js';
import { Room } from '../../fuse-client/room.js';
import * as m from '../../protocol/messages/index.js';
import { startTwoClients } from '../client/two-clients.js';

t.setTimeout(600_000);

let seed = 8200;

/** A mount whose file `log` is open for appending; dropped pages are written down. */
async function setUp() {
  const { world, a } = await startTwoClients(seed++);
  const request = { parent: m.ROOT_ID, name: 'log', mode: 0o100644, rdev: 0, exclusive: true };
  const { attributes } = await world.until(a.master.mutate(m.Create, request));
  const { id } = attributes;
  const inodes = new InodeMap(m.ROOT_ID);
  const powers = new Powers(a, { ...mountDefaults, directory: '/mnt' }, inodes);
  const dropped: (readonly [offset: number, length: number])[] = [];
  powers.kernel = {
    invalidateInode: async (inode, offset, length) => {
      if (inode === id) dropped.push([offset, length]);
    },
  };
  const files = new GfsFiles(a, powers, new Room(a.master, world.process('a').environment.clock));
  const file = await world.until(a.open(id, {}));
  const handle = files.add(file, OpenFlags.APPEND);
  const write = (kernelOffset: number, text: string) =>
    world.until(files.write(handle, kernelOffset, Buffer.from(text), OpenFlags.APPEND));
  return { world, a, id, file, powers, dropped, write };
}

/** Has others append `text` when the client's next append is already on its way. */
function getAheadOf(client: GfsClient, text: string): void {
  const { replicas } = client.copying as OpenFileParts;
  const append = replicas.append.bind(replicas);
  replicas.append = async (chunk, at, buffers, context, deadline) => {
    replicas.append = append;
    await append(chunk, at, [Buffer.from(text)], context, deadline);
    return append(chunk, at, buffers, context, deadline);
  };
}

t.test('O_APPEND: acknowledged ahead and gone elsewhere, its pages are dropped', async (t) => {
  const { world, a, file, id, powers, dropped, write } = await setUp();
  await write(0, 'first\n');
  await write(6, 'alone\n');
  t.ok(file.isAhead, 'acknowledged before it was sent');
  await world.until(file.flush({}));
  t.same(dropped, [], 'nothing is dropped that is right');
  await write(12, 'mine\n');
  getAheadOf(a, 'theirs\n');
  t.equal(await world.until(powers.lastAppend(id)), 19, 'append.offset waits for the true one');
  t.same(dropped, [[12, 5]]);
  await world.until(file.flush({}));
  t.equal(file.size, 24);
});

t.test('append: who does not ask to be told later gets the offset when it is certain', async (t) => {
  const { world, a, file, write } = await setUp();
  await write(0, 'first\n');
  getAheadOf(a, 'theirs\n');
  t.equal(await world.until(file.append(Buffer.from('mine\n'))), 13);
});
