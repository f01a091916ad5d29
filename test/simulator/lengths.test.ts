/** What simulations have found about what one client sees of another: lengths, cuts, snapshots. */
import t from 'tap';
import type { GfsClient } from '../../client/index.js';
import type { OpenFile } from '../../client/open-file.js';
import { ROOT_ID, Snapshot } from '../../protocol/messages/index.js';
import { readWhole } from './reading.js';
import { bytes, create, type Scene, scenario, textOf } from './scene.js';

/** On a busy machine. */
t.setTimeout(600_000);

scenario('truncate: cuts what the master has not heard of yet', async (t, scene) => {
  const client = await scene.client('a');
  const file = await create(client, 'f');
  await file.write(0, bytes('x', 1_000));
  await client.setAttributes(file.id, { size: 600 }, {});
  await file.write(900, bytes('end'));
  await file.flush({});
  const expected = `${'x'.repeat(600)}${'\0'.repeat(300)}end`;
  t.equal((await readWhole(file)).toString('latin1'), expected);
  t.equal(await textOf(await scene.client('b'), file.id), expected);
});

scenario(
  'snapshot: a reader that holds old locations never sees bytes of the other file',
  async (t, scene) => {
    const [writer, reader] = [await scene.client('a'), await scene.client('b')];
    const file = await create(writer, 'f');
    await file.write(0, bytes('original', 1_000));
    await file.flush({});
    const held = await reader.open(file.id, {});
    t.equal((await readWhole(held)).toString('latin1'), 'original'.repeat(1_000));
    const body = { id: file.id, parent: ROOT_ID, name: 's' };
    const { attributes } = await writer.master.mutate(Snapshot, body);
    // The file gets a chunk of its own; the old one is the snapshot's alone, and is written to.
    await file.write(0, bytes('replaced', 1_000));
    await file.flush({});
    const snapshot = await writer.open(attributes.id, {});
    await snapshot.write(0, bytes('snapshot', 1_000));
    await snapshot.flush({});
    t.equal((await readWhole(held)).toString('latin1'), 'replaced'.repeat(1_000));
  },
);

/** Two clients that keep what they are promised, and a file that both hold open. */
async function heldByTwo(scene: Scene, text: string): Promise<readonly [OpenFile, OpenFile, GfsClient]> {
  const a = await scene.client('a', { caches: true });
  const b = await scene.client('b', { caches: true });
  const ofA = await create(a, 'f');
  await ofA.write(0, bytes(text));
  await ofA.flush({});
  return [ofA, await b.open(ofA.id, {}), b];
}

scenario(
  'length: a write to a file that another client made longer hides nothing of it',
  async (t, scene) => {
    const [ofA, ofB] = await heldByTwo(scene, 'short');
    await ofB.write(0, bytes('longer than before'));
    await ofB.flush({});
    await ofA.write(0, bytes('L'));
    await ofA.flush({});
    t.equal((await readWhole(ofA)).toString('latin1'), 'Longer than before');
    t.equal((await readWhole(ofB)).toString('latin1'), 'Longer than before');
  },
);

scenario(
  'length: of two readers at once none believes what the other has only asked for',
  async (t, scene) => {
    const [ofA, ofB] = await heldByTwo(scene, 'short');
    await ofB.write(0, bytes('longer than before'));
    await ofB.flush({});
    const read = await Promise.all([readWhole(ofA), readWhole(ofA)]);
    t.same(
      read.map((content) => content.toString('latin1')),
      ['longer than before', 'longer than before'],
    );
  },
);

scenario(
  'length: a write to a file that another client cut does not bring its old length back',
  async (t, scene) => {
    const [ofA, ofB, b] = await heldByTwo(scene, 'a line that will not stay');
    await b.setAttributes(ofB.id, { size: 2 }, {});
    await ofA.write(1, bytes('new'));
    t.equal((await readWhole(ofA)).toString('latin1'), 'anew', 'before it is told');
    await ofA.flush({});
    t.equal((await readWhole(ofA)).toString('latin1'), 'anew');
    t.equal(await textOf(b, ofB.id), 'anew');
  },
);

scenario('promises: who was told of a chmod is told of what is cut after it', async (t, scene) => {
  const [ofA, ofB, b] = await heldByTwo(scene, 'a line that will not stay');
  t.equal((await readWhole(ofA)).byteLength, 25);
  await b.setAttributes(ofB.id, { mode: 0o100600 }, {});
  await b.setAttributes(ofB.id, { size: 6 }, {});
  t.equal((await readWhole(ofA)).toString('latin1'), 'a line');
});
