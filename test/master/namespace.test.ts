import t from 'tap';
import * as m from '../../protocol/messages/index.js';
import { SimulatedWorld } from '../fakes/index.js';
import { codeOf, MasterHost, TestClient } from './support.js';

async function world() {
  const world = new SimulatedWorld(1);
  const host = await new MasterHost(world).start();
  return { world, host, client: await TestClient.start(world) };
}

t.test('namespace: what is created is found by name, path, id and listing', async (t) => {
  const { client } = await world();
  const directory = await client.mkdir(m.ROOT_ID, 'a');
  const file = await client.create(directory, 'b');
  t.equal((await client.call(m.Lookup, { parent: directory, name: 'b' })).attributes.id, file);
  t.equal((await client.lookup('/a/b')).id, file);
  t.equal((await client.call(m.GetAttributes, { id: file })).attributes.mode, 0o100644);
  t.strictSame(await client.names(directory), ['b']);
  t.equal(await codeOf(client.create(directory, 'b')), 'EXISTS');
  t.equal(await codeOf(client.lookup('/a/c')), 'NOT_FOUND');
});
