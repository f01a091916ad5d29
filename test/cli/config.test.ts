import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { chunkserverDefaults } from '../../chunkserver/options.js';
import { configurationManual } from '../../cli/config/document.js';
import { everyKey } from '../../cli/config/keys.js';
import { ConfigurationError, lineOf, loadConfiguration, showConfiguration } from '../../cli/config/load.js';
import { chunkserverOptions, clientOptions, masterOptions, mastersOf } from '../../cli/config/options.js';
import { duration, parseHostPort, showHostPort, size } from '../../cli/config/values.js';
import { clientDefaults } from '../../client/options.js';
import { masterDefaults } from '../../master/options.js';

const directory = mkdtempSync(join(tmpdir(), 'gfs-config-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));

/** The nearest directory above that has package.json: the sources and dist/ lie at different depths. */
function repository(): string {
  let at = dirname(fileURLToPath(import.meta.url));
  while (!readdirSync(at).includes('package.json')) at = dirname(at);
  return at;
}

let files = 0;
function file(text: string): string {
  const path = join(directory, `${files++}.toml`);
  writeFileSync(path, text);
  return path;
}

function load(text: string) {
  return loadConfiguration({ file: file(text) }).configuration;
}

/** The lines of the refusal, with the directory taken away. */
function refusal(text: string): string[] {
  try {
    load(text);
  } catch (error) {
    if (error instanceof ConfigurationError)
      return error.message.replaceAll(/\S*\/\d+\.toml/g, 'F').split('\n');
    throw error;
  }
  return [];
}

t.test('config: the keys of the seed configuration mean what they meant', async (t) => {
  const configuration = load(`
    [master]
    host = "localhost"
    port = 5000
    replication_factor = 3
    distance_weight = 0.6
    space_weight = 0.4

    [chunk_server]
    heartbeat_interval = 5
  `);
  t.match(masterOptions(configuration), {
    host: 'localhost',
    port: 5000,
    goal: 3,
    distanceWeight: 0.6,
    spaceWeight: 0.4,
    heartbeatIntervalMs: 5000,
  });
  t.same(chunkserverOptions(configuration).masters, [{ host: 'localhost', port: 5000 }]);
});

t.test('config: an empty file gives the defaults of the programs themselves', async (t) => {
  const configuration = load('');
  // A process has a trace where it is told to; tests and simulations do without.
  const { dataDirectory: _, traceBytes, ...master } = masterOptions(configuration);
  t.equal(traceBytes, 64 * 1024 * 1024);
  t.match(masterDefaults, master);
  const {
    dataDirectories: __,
    masters: ___,
    traceBytes: _____,
    ...chunkserver
  } = chunkserverOptions(configuration);
  t.match(chunkserverDefaults, chunkserver);
  const { masters: ____, hostname: ______, ...client } = clientOptions(configuration);
  t.match(clientDefaults, client);
});

t.test('config: our keys reach the options', async (t) => {
  const configuration = load(`
    [cluster]
    masters = ["a", "b:7000", "[::1]:7001"]
    [master]
    chunk_size = "1MiB"
    lease_duration = "90s"
    [operation_log]
    sync = "interval"
    sync_interval = "200ms"
    [namespace]
    parent_lock = "exclusive"
    [replication]
    clone_rate = "3MiB"
    server_rate = "7MiB"
    [chunk_server]
    disks = ["/d1", "/d2"]
    location = [1.5, -2]
    rack = "r1"
    sync = "memory"
    reserved = "512 MiB"
    [client]
    location = [0, 0]
    rack = "r2"
    hard = true
    deadline = "5s"
  `);
  t.match(masterOptions(configuration), {
    chunkBytes: 1024 * 1024,
    leaseDurationMs: 90_000,
    logSync: 'interval',
    logSyncIntervalMs: 200,
    parentLock: 'exclusive',
    replication: { cloneRateBps: 3 * 1024 * 1024, serverRateBps: 7 * 1024 * 1024 },
  });
  t.match(chunkserverOptions(configuration), {
    dataDirectories: ['/d1', '/d2'],
    location: { x: 1.5, y: -2 },
    rack: 'r1',
    sync: 'memory',
    reservedBytes: 512 * 1024 * 1024,
    masters: [
      { host: 'a', port: 5000 },
      { host: 'b', port: 7000 },
      { host: '::1', port: 7001 },
    ],
  });
  t.match(clientOptions(configuration), {
    location: { x: 0, y: 0 },
    rack: 'r2',
    hard: true,
    deadlineMs: 5000,
  });
});

t.test('config: an unknown key is refused with its line and the nearest name', async (t) => {
  t.same(refusal('[master]\nport = 1\n\nreplicaton_factor = 2\n'), [
    "F:4: unknown key 'replicaton_factor' in [master]: did you mean 'replication_factor'?",
  ]);
  t.same(refusal('[chunkserver]\nport = 1\n'), [
    'F:1: unknown section [chunkserver]: did you mean [chunk_server]?',
  ]);
  t.same(refusal('[master]\nheartbeat_interval = 5\n'), [
    "F:2: unknown key 'heartbeat_interval' in [master]: it belongs in [chunk_server]",
  ]);
  t.same(refusal('replication_factor = 3\n'), [
    "F:1: unknown key 'replication_factor' outside a section: it belongs in [master]",
  ]);
  t.match(
    refusal('[log]\nxyzzyplugh = 3\n')[0],
    /F:2: unknown key 'xyzzyplugh' in \[log\]; \[log\] has level, file/,
  );
});

t.test('config: every problem is told at once', async (t) => {
  const lines = refusal('[master]\nport = "x"\ngoal = 3\n[client]\nlocation = [1, 2, 3]\n');
  t.same(lines, [
    'F:2: master.port must be a whole number from 0 to 65535, not "x"',
    "F:3: unknown key 'goal' in [master]; [master] has host, port, advertise_host, data, chunk_size, replication_factor, distance_weight, space_weight, lease_duration, session_renewal, session_timeout, space_low, retention, promises, metrics_port",
    'F:5: client.location must be coordinates as [x, y], not [1,2,3]',
  ]);
});

t.test('config: text that is not TOML is refused with line and column', async (t) => {
  t.match(refusal('[master]\nport = = 3\n'), [/^F:2:8: not TOML: /]);
});

t.test('config: a file that is missing is named', async (t) => {
  t.throws(() => loadConfiguration({ file: '/nowhere/gfs.toml' }), {
    message: '/nowhere/gfs.toml: cannot read the configuration: there is no such file',
  });
});

t.test('config: values that contradict each other are refused', async (t) => {
  t.match(refusal('[master]\nchunk_size = 100000\n'), [/chunk_size must be a multiple of 64KiB/]);
  t.match(refusal('[master]\nsession_timeout = "600ms"\n'), [/session_timeout must be at least twice/]);
});

t.test('config: environment overrides the file, and --set the environment', async (t) => {
  const path = file('[master]\nport = 1\nhost = "f"\n[chunk_server]\nrack = "f"\n');
  const { configuration, origins } = loadConfiguration({
    file: path,
    environment: { GFS_MASTER_HOST: 'e', GFS_CHUNK_SERVER_RACK: '12', PATH: '/bin', GFS_CONFIG: path },
    assignments: [{ text: 'chunk_server.rack="s"', option: '--set' }],
  });
  t.match(configuration, { master: { port: 1, host: 'e' }, chunk_server: { rack: 's' } });
  t.equal(origins.get('master.port'), 'file');
  t.equal(origins.get('master.host'), 'environment');
  t.equal(origins.get('chunk_server.rack'), 'command line');
  t.equal(origins.get('master.data'), 'default');
});

t.test('config: the environment may leave quotes out, and a name of digits stays a name', async (t) => {
  const { configuration } = loadConfiguration({
    environment: {
      GFS_CHUNK_SERVER_RACK: '12',
      GFS_CHUNK_SERVER_LOCATION: '[1, 2]',
      GFS_CHUNK_SERVER_RESERVED: '2GiB',
      GFS_CLIENT_HARD: 'true',
    },
  });
  t.match(configuration.chunk_server, { rack: '12', location: { x: 1, y: 2 }, reserved: 2 * 1024 ** 3 });
  t.equal(configuration.client.hard, true);
});

t.test('config: a misspelt variable of a section is refused, others are not ours', async (t) => {
  t.throws(() => loadConfiguration({ environment: { GFS_MASTER_PROT: '1' } }), {
    message: 'environment GFS_MASTER_PROT: no such key: did you mean GFS_MASTER_PORT?',
  });
  t.doesNotThrow(() => loadConfiguration({ environment: { GFS_HOME: '/x', GFSX_MASTER_PROT: '1' } }));
});

t.test('config: --set is refused when it is no assignment', async (t) => {
  for (const text of ['master', 'master.port', 'port=3', 'nothing.port=3', 'master.prot=3']) {
    t.throws(
      () => loadConfiguration({ assignments: [{ text, option: '--set' }] }),
      { message: /^--set/ },
      text,
    );
  }
});

t.test('config: relative paths of a file are taken from its directory', async (t) => {
  const configuration = load(
    '[master]\ndata = "m"\n[chunk_server]\ndisks = ["c", "/abs"]\n[log]\nfile = "l"\n',
  );
  t.equal(configuration.master.data, join(directory, 'm'));
  t.same(configuration.chunk_server.disks, [join(directory, 'c'), '/abs']);
  t.equal(configuration.log.file, join(directory, 'l'));
});

t.test('config: a client finds a master that listens everywhere on this host', async (t) => {
  t.same(mastersOf(load('[master]\nhost = "0.0.0.0"\nport = 5005\n')), [{ host: '127.0.0.1', port: 5005 }]);
});

t.test('config: what show prints loads as the same configuration', async (t) => {
  const loaded = loadConfiguration({
    file: file('[master]\nchunk_size = "1MiB"\n[client]\nlocation = [1, 2]\n[cluster]\nmasters = ["h:1"]\n'),
  });
  t.same(load(showConfiguration(loaded)), {
    ...loaded.configuration,
    // They are in the file now, and so relative to it.
    master: { ...loaded.configuration.master, data: join(directory, '.gfs/master') },
    chunk_server: { ...loaded.configuration.chunk_server, disks: [join(directory, '.gfs/chunkserver')] },
  });
});

t.test('config: the line of a key is found however it is written', async (t) => {
  const text =
    '# [master]\nmaster.port = 1\n"client"."rack" = "x"\n[ chunk_server ] # c\n  "rack" = "port = 3"\n';
  t.equal(lineOf(text, 'master', 'port'), 2);
  t.equal(lineOf(text, 'client', 'rack'), 3);
  t.equal(lineOf(text, 'chunk_server', 'rack'), 5);
  t.equal(lineOf(text, 'chunk_server'), 4);
  t.equal(lineOf(text, 'log', 'level'), undefined);
});

t.test('config: every default is a value of its own type', async (t) => {
  for (const { section, name, key } of everyKey()) {
    if (key.fallback !== undefined) {
      t.doesNotThrow(
        () => load(`[${section}]\n${name} = ${key.type.show(key.fallback)}\n`),
        `${section}.${name}`,
      );
    }
  }
});

t.test('config: sizes and times are shown as they are read', async (t) => {
  const bytes = size(0, 2 ** 50);
  const times = duration(0, 2 ** 40);
  for (const type of [bytes, times]) {
    fc.assert(
      fc.property(fc.nat(2 ** 31), (value) => {
        t.equal(type.parse(JSON.parse(type.show(value))), value);
      }),
      { numRuns: 50 },
    );
  }
  t.equal(bytes.show(64 * 1024 * 1024), '"64MiB"');
  t.equal(times.show(60_000), '"1m"');
  t.equal(times.parse(1.5), 1500);
  for (const bad of ['', 'MiB', '1 XB', '-1MiB', '1e3MiB', null, [], Number.NaN, Number.POSITIVE_INFINITY]) {
    t.throws(() => bytes.parse(bad), String(bad));
  }
});

t.test('config: an address is shown as it is read', async (t) => {
  for (const text of ['h:1', '10.0.0.1:65535', '[::1]:5000'])
    t.equal(showHostPort(parseHostPort(text, 1)), text);
  for (const bad of ['', ':1', 'h:', 'h:0', 'h:65536', 'a b:1', '::1', 'h:x', 3]) {
    t.throws(() => parseHostPort(bad, 5000), String(bad));
  }
});

t.test('config: the manual lists every key as it is (npm run docs writes it)', async (t) => {
  t.equal(readFileSync(join(repository(), 'docs/configuration.md'), 'utf8'), configurationManual());
});

t.test('config: every example is right', async (t) => {
  const examples = join(repository(), 'examples');
  const names = readdirSync(examples).filter((name) => name.endsWith('.toml'));
  t.ok(names.length >= 2);
  for (const name of names) t.doesNotThrow(() => loadConfiguration({ file: join(examples, name) }), name);
});
