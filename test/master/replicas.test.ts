import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { ChunkTable } from '../../master/chunk-table.js';
import { type Chunkserver, type Replica, Replicas } from '../../master/replicas.js';
import type { Caller } from '../../protocol/rpc.js';

function serverOf(serverId: string): Chunkserver {
  return {
    session: 1,
    server: { serverId, host: serverId, port: 1 },
    peer: {} as Caller,
    bootId: 1,
    alive: true,
    gone: false,
    reported: true,
    lastHeardMs: 0,
    location: undefined,
    rack: undefined,
    space: { totalBytes: 1000, availableBytes: 1000, usedBytes: 0 },
    load: 0,
    recentCreations: 0,
    recentLeases: 0,
    replicaCount: 0,
    tableIndex: 0,
    deletions: new Set(),
  };
}

const shown = ({ chunkserver, version, lengthBytes, suspect, damaged }: Replica) =>
  `${chunkserver.server.serverId} v${version} ${lengthBytes} ${suspect} ${damaged}`;

t.test('replicas: the packed table is a map of maps, whatever comes and goes', (t) => {
  const step = fc.record({
    what: fc.constantFrom('put', 'put', 'put', 'remove', 'damage', 'suspect', 'die', 'forget'),
    server: fc.nat(5),
    handle: fc.constantFrom(1, 2, 255, 256, 300, 2 ** 40),
    version: fc.integer({ min: 1, max: 2 ** 29 - 1 }),
    lengthBytes: fc.nat(2 ** 28),
    suspect: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const replicas = new Replicas();
      const servers = Array.from({ length: 6 }, (_, at) => serverOf(`cs${at}`));
      const model = new Map<string, string>();
      for (const { what, server: at, handle, version, lengthBytes, suspect } of steps) {
        const server = servers[at] as Chunkserver;
        const key = `${handle} ${server.server.serverId}`;
        if (what === 'die') {
          server.alive = false;
          server.gone = true;
          for (const known of [...model.keys()])
            if (known.endsWith(` ${server.server.serverId}`)) model.delete(known);
          servers[at] = serverOf(server.server.serverId);
        } else if (what === 'forget') replicas.forgetDead();
        else if (what === 'remove') {
          replicas.remove(server, handle);
          model.delete(key);
        } else if (what === 'put') {
          const damaged = model.get(key)?.endsWith('true') ?? false;
          model.set(key, `${server.server.serverId} v${version} ${lengthBytes} ${suspect} ${damaged}`);
          replicas.put(server, handle, version, lengthBytes, suspect);
        } else {
          if (what === 'damage') replicas.markDamaged(server, handle);
          else replicas.markSuspect(server, handle);
          const words = model.get(key)?.split(' ');
          if (words === undefined) continue;
          words[what === 'damage' ? 4 : 3] = 'true';
          model.set(key, words.join(' '));
        }
        const expected = [...model].filter(([known]) => known.startsWith(`${handle} `));
        assert.deepEqual(replicas.live(handle).map(shown).sort(), expected.map(([, value]) => value).sort());
      }
      while (replicas.forgetDead());
      for (const server of servers) {
        const handles = [...replicas.handlesOn(server)].filter((handle) => handle !== undefined);
        const expected = [...model.keys()].filter((key) => key.endsWith(` ${server.server.serverId}`));
        assert.deepEqual(handles.map(String).sort(), expected.map((key) => key.split(' ')[0]).sort());
        assert.equal(server.replicaCount, handles.length);
      }
    }),
    { numRuns: 300 },
  );
  t.pass('300 runs');
  t.end();
});

t.test('replicas: three of each of 100,000 chunks take less than 40 bytes a chunk', (t) => {
  const replicas = new Replicas();
  const servers = ['a', 'b', 'c'].map(serverOf);
  const before = process.memoryUsage();
  for (let handle = 1; handle <= 100_000; handle++)
    for (const server of servers) replicas.put(server, handle, 1, 1024, false);
  const after = process.memoryUsage();
  const bytes = after.arrayBuffers - before.arrayBuffers;
  t.ok(bytes / 100_000 < 40, `${bytes / 100_000} bytes a chunk`);
  t.equal(replicas.live(100_000).length, 3);
  t.end();
});

t.test(
  'replicas: the version before is the last resort, and only where nobody can have written since',
  async (t) => {
    const fields = { references: 1, goal: 3, replicas: 2, holder: '', durationMs: 0 };
    const chunk = (version: number) => new ChunkTable().add({ ...fields, handle: 1, version });
    let isEverybodyHere = true;
    const state = chunk(3);
    const made = (hasLease: boolean) => {
      const replicas = new Replicas();
      replicas.isEverybodyHere = () => isEverybodyHere;
      const servers = [serverOf('a'), serverOf('b'), serverOf('late')] as const;
      const [a, b, late] = servers;
      replicas.put(a, 1, 3, 10, true);
      replicas.put(b, 1, 3, 10, true);
      replicas.put(late, 1, 2, 10, true);
      if (!hasLease) replicas.noteLeaseless(1, 3);
      replicas.markDamaged(a, 1);
      return { replicas, a, b, late };
    };
    const names = (replicas: Replicas, chunk = state) =>
      replicas.raisable(chunk).map(({ chunkserver }) => chunkserver.server.serverId);
    const { replicas, a, b, late } = made(false);
    const stale = () => replicas.isUseless(replicas.find(late, 1) as Replica, state);
    t.same([names(replicas), stale()], [['b'], true], 'while one of the newest may be good');
    replicas.markDamaged(b, 1);
    t.same([names(replicas), stale()], [['late'], false]);
    t.same(names(replicas, chunk(4)), [], 'it is further behind');
    replicas.remove(a, 1);
    t.same(names(replicas), ['late'], 'not even its sidecar can be read');
    isEverybodyHere = false;
    t.same(names(replicas), [], 'a server is away');
    isEverybodyHere = true;
    const leased = made(true);
    leased.replicas.markDamaged(leased.b, 1);
    t.same(names(leased.replicas), [], 'the newer one came with a lease');
    b.alive = false;
    t.same(names(replicas), [], 'one of the newest is away');
  },
);
