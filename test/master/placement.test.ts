import fc from 'fast-check';
import t from 'tap';
import { ClientServerPriority, LocationGraph } from '../../master/location-graph.js';
import { chooseServers } from '../../master/placement.js';
import type { Chunkserver } from '../../master/replicas.js';
import type { Location } from '../../protocol/messages/index.js';
import type { Caller } from '../../protocol/rpc.js';

const weights = { distanceWeight: 0.6, spaceWeight: 0.4 };

interface Described {
  location?: Location;
  rack?: string;
  /** Of 1000 bytes. */
  available?: number;
  recentCreations?: number;
  recentLeases?: number;
}

function serverOf(
  serverId: string,
  { location, rack, available = 1000, recentCreations = 0, recentLeases = 0 }: Described,
): Chunkserver {
  return {
    session: 1,
    server: { serverId, host: serverId, port: 1 },
    peer: {} as Caller,
    bootId: 1,
    alive: true,
    gone: false,
    reported: true,
    lastHeardMs: 0,
    location,
    rack,
    space: { totalBytes: 1000, availableBytes: available, usedBytes: 1000 - available },
    load: 0,
    recentCreations,
    recentLeases,
    replicaCount: 0,
    tableIndex: 0,
    deletions: new Set(),
  };
}

function serversOf(described: Record<string, Described>): Chunkserver[] {
  return Object.entries(described).map(([serverId, what]) => serverOf(serverId, what));
}

function priorityOf(active: Chunkserver[]): ClientServerPriority {
  return new ClientServerPriority(new LocationGraph(() => active), weights);
}

const ids = (servers: readonly Chunkserver[]): string[] => servers.map(({ server }) => server.serverId);

function choose(
  active: Chunkserver[],
  count: number,
  near?: Location,
  exclude: Chunkserver[] = [],
): string[] {
  const request = { count, near, exclude: new Set(exclude), chunkBytes: 100 };
  return ids(chooseServers(active, priorityOf(active), request));
}

t.test('location: the score is 0.6 × distance share + 0.4 × used share, lowest first', (t) => {
  const active = serversOf({
    far: { location: { x: 30, y: 40 } },
    near: { location: { x: 3, y: 4 }, available: 500 },
    nowhere: { available: 0 },
  });
  const ranked = priorityOf(active).priorities({ x: 0, y: 0 });
  t.strictSame(
    ranked.map(({ chunkserver }) => chunkserver.server.serverId),
    ['near', 'nowhere', 'far'],
  );
  t.strictSame(
    ranked.map(({ distance }) => distance),
    [5, 0, 50],
  );
  const scores = ranked.map(({ score }) => Math.round(score * 1000) / 1000);
  t.strictSame(scores, [0.26, 0.4, 0.6]);
  t.end();
});

t.test('location: the graph keeps distances both ways, as nodes come, move and go', (t) => {
  const active = serversOf({ a: { location: { x: 3, y: 4 } }, b: { location: { x: 0, y: 1 } }, c: {} });
  const graph = new LocationGraph(() => active);
  const node = (type: 'client' | 'chunk_server', id: string, location?: Location) =>
    graph.addNode({ type, id, location, hostname: id, rack: undefined });
  const client = { type: 'client', id: 'me' } as const;
  const a = { type: 'chunk_server', id: 'a' } as const;
  for (const { server, location } of active) node('chunk_server', server.serverId, location);
  const remove = node('client', 'me', { x: 0, y: 0 });
  t.equal(graph.distance(client, a), 5);
  t.equal(graph.distance(a, client), 5, 'both ways');
  t.equal(graph.distance(client, { type: 'chunk_server', id: 'c' }), 0, 'no coordinates, no distance');
  t.strictSame(ids(graph.nearestChunkservers('me')), ['c', 'b', 'a'], 'k is 3');
  t.strictSame(ids(graph.nearestChunkservers('me', 2)), ['c', 'b']);
  node('chunk_server', 'a', { x: 0, y: 0.5 });
  t.equal(graph.distance(client, a), 0.5, 'it has moved');
  const other = node('client', 'me', { x: 0, y: 1.5 });
  remove();
  t.equal(graph.distance(a, client), 1, 'an old connection takes nothing from a new one');
  active.splice(1, 1);
  t.strictSame(ids(graph.nearestChunkservers('me')), ['c', 'a'], 'active servers alone');
  other();
  t.equal(graph.node('client', 'me'), undefined);
  t.equal(graph.distance(a, client), 0);
  graph.removeNode('chunk_server', 'a');
  t.equal(graph.node('chunk_server', 'a'), undefined);
  t.end();
});

t.test('location: data is pushed along the nearest hops', (t) => {
  const graph = new LocationGraph(() => []);
  const at = (id: string, x: number) =>
    graph.addNode({ type: 'chunk_server', id, location: { x, y: 0 }, hostname: id, rack: undefined });
  for (const [id, x] of [
    ['far', 9],
    ['near', 1],
    ['middle', 5],
  ] as const)
    at(id, x);
  const server = (serverId: string) => ({ serverId, host: serverId, port: 1 });
  const secondaries = [server('near'), server('middle')];
  const lease = { index: 0, handle: 1, version: 1, primary: server('far'), secondaries, remainingMs: 1 };
  t.strictSame(graph.chained(lease, { x: 0, y: 0 }).chain, [1, 2, 0]);
  t.strictSame(graph.chained(lease, { x: 9, y: 0 }).chain, [0, 2, 1]);
  t.strictSame(graph.chained(lease, undefined).chain, [0, 2, 1], 'from the primary on');
  const unknown = { ...lease, primary: server('x'), secondaries: [server('y')] };
  t.equal(graph.chained(unknown, { x: 0, y: 0 }).chain, undefined);
  t.end();
});

t.test('location: without coordinates space decides, and equals take turns', (t) => {
  const active = serversOf({ a: { available: 300 }, b: {}, c: { available: 995 } });
  const ranked = (turn: number) =>
    ids(
      priorityOf(active)
        .rank(active, undefined, turn)
        .map(({ chunkserver }) => chunkserver),
    );
  t.strictSame(ranked(0), ['b', 'c', 'a']);
  t.strictSame(ranked(1), ['c', 'b', 'a']);
  t.end();
});

t.test('placement: racks first, then use, then recent creations, then the score', (t) => {
  const racks = serversOf({ a1: { rack: 'a' }, a2: { rack: 'a' }, b1: { rack: 'b', available: 200 } });
  t.strictSame(choose(racks, 2).sort(), ['a1', 'b1']);
  t.strictSame(
    choose(serversOf({ full: { available: 200 }, half: { available: 600 }, empty: {} }), 2).sort(),
    ['empty', 'half'],
  );
  t.strictSame(choose(serversOf({ busy: { recentCreations: 50 }, a: {}, b: {} }), 2).sort(), ['a', 'b']);
  const placed = serversOf({ far: { location: { x: 9, y: 0 } }, near: { location: { x: 1, y: 0 } } });
  t.strictSame(choose(placed, 1, { x: 0, y: 0 }), ['near']);
  t.strictSame(choose(placed, 2, { x: 9, y: 0 }), ['far', 'near'], 'the primary is the one near the writer');
  t.strictSame(
    choose(serversOf({ a: { recentLeases: 5 }, b: {} }), 2)[0],
    'b',
    'or the one with fewest leases',
  );
  t.end();
});

t.test('placement: nobody connected, everybody full', (t) => {
  t.throws(() => choose([], 3), { code: 'NO_CHUNKSERVERS' });
  t.throws(() => choose(serversOf({ a: { available: 99 } }), 3), { code: 'NO_SPACE' });
  const active = serversOf({ a: {}, b: {} });
  t.strictSame(choose(active, 3, undefined, active.slice(0, 1)), ['b']);
  t.end();
});

t.test('placement: always as many different servers as there are, never a full or excluded one', (t) => {
  const described = fc.record({
    rack: fc.constantFrom('a', 'b', 'c'),
    available: fc.integer({ min: 0, max: 1000 }),
    recentCreations: fc.nat(100),
    excluded: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.array(described, { minLength: 1, maxLength: 12 }),
      fc.integer({ min: 1, max: 5 }),
      (all, count) => {
        const active = all.map((what, at) => serverOf(`${at}`, what));
        const excluded = active.filter((_, at) => all[at]?.excluded);
        const possible = active.filter(
          (server) => server.space.availableBytes >= 100 && !excluded.includes(server),
        );
        if (active.every(({ space }) => space.availableBytes < 100)) return;
        const chosen = choose(active, count, undefined, excluded);
        t.equal(new Set(chosen).size, Math.min(count, possible.length));
        for (const id of chosen) if (!ids(possible).includes(id)) throw new Error(`server ${id} was chosen`);
        const racks = new Set(chosen.map((id) => active[Number(id)]?.rack));
        const most = new Set(possible.map(({ rack }) => rack)).size;
        t.equal(racks.size, Math.min(chosen.length, most), 'over as many racks as there are');
      },
    ),
  );
  t.end();
});
