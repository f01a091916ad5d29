/** The client library as another program has it, and records through a mount. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { connect, RecordReader, RecordWriter } from '../../client/main.js';
import { cannotMount, RealCluster } from './cluster.js';

t.setTimeout(0);

t.test('library: a program and a mount see the same files', { skip: cannotMount }, async (t) => {
  const cluster = await RealCluster.start(t, { chunkSize: '1MiB' });
  const gfs = await connect(cluster.address, { deadlineMs: 20_000 });
  t.teardown(() => gfs.close());
  await gfs.mkdir('/d');
  const file = await gfs.open('/d/größe', { create: true, exclusive: true });
  const content = Buffer.alloc(2_500_000, 'gfs ');
  await file.write(0, content);
  t.equal((await gfs.stat('/d/größe')).sizeBytes, content.byteLength, 'it sees its own writes');
  await file.close();
  const path = join(cluster.mountPoint, 'd', 'größe');
  t.ok((await readFile(path)).equals(content));

  await gfs.snapshot('/d', '/d2');
  await writeFile(path, 'short');
  const copy = await gfs.open('/d2/größe');
  const pieces: Buffer[] = [];
  for await (const piece of copy.readStream(100)) pieces.push(piece);
  t.ok(Buffer.concat(pieces).equals(content.subarray(100)), 'a snapshot, streamed');
  await copy.close();
  await t.rejects(copy.read(0, 1), { code: 'INVALID' }, 'closed is closed');

  const log = await gfs.open('/log', { create: true });
  t.same(await Promise.all([log.append(Buffer.from('one\n')), log.append(Buffer.from('two\n'))]), [0, 4]);
  await log.truncate(4);
  await log.sync();
  t.equal(await gfs.recordAppend('/log', Buffer.from('three\n')), 4);
  await log.close();
  t.equal(await readFile(join(cluster.mountPoint, 'log'), 'utf8'), 'one\nthree\n');

  const stop = new AbortController();
  const seen: string[] = [];
  const watching = (async () => {
    for await (const watched of gfs.watch('/d', stop.signal)) {
      if (watched.type === 'event') seen.push(`${watched.kind} ${watched.path}`);
      if (seen.length === 2) break;
    }
  })();
  // It begins with its first event; until then nothing tells that it has begun.
  while (seen.length === 0) {
    await writeFile(join(cluster.mountPoint, 'd', 'probe'), '');
    await rm(join(cluster.mountPoint, 'd', 'probe'));
  }
  await watching;
  t.ok(
    seen.every((line) => /^\w+ \/d\/probe$/.test(line)),
    seen.join(', '),
  );

  await t.test('command: watch tells what changes in lines or JSON, and ends after -n events', async (t) => {
    const directory = join(cluster.mountPoint, 'd');
    const probe = join(directory, 'probe');
    const commands = [[], ['--json']].map((words) =>
      cluster.gfs(['watch', directory, '-n', '3', ...words], { timeoutMs: 30_000 }),
    );
    let haveEnded = false;
    const ended = Promise.all(commands).finally(() => {
      haveEnded = true;
    });
    // They tell nothing until they see something, so it happens until they have seen enough.
    while (!haveEnded) {
      await writeFile(probe, '');
      await rm(probe);
    }
    const [lines, json] = (await ended).map(({ status, stdout, stderr }) => {
      t.equal(status, 0, stderr);
      return stdout.trimEnd().split('\n');
    }) as [string[], string[]];
    t.equal(lines.length, 3);
    const kinds: string[] = [];
    for (const line of lines) {
      const [time = '', kind = '', path, ...rest] = line.split(/ {2,}/);
      t.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      t.same([path, rest], [probe, []], line);
      kinds.push(kind);
    }
    t.ok(kinds.includes('created') && kinds.includes('removed'), kinds.join());
    t.equal(json.length, 3);
    for (const event of json) {
      const wanted = {
        time: String,
        kind: /^(created|removed|written)$/,
        path: probe,
        id: Number,
        directory: false,
      };
      t.match(JSON.parse(event), wanted, event);
    }
  });

  await gfs.rename('/log', '/d/log');
  const names: string[] = [];
  for await (const { name, stat } of gfs.list('/d')) names.push(`${name} ${stat.kind}`);
  t.same(names.sort(), ['größe file', 'log file']);
  await gfs.unlink('/d/log');
  await t.rejects(gfs.rmdir('/d'), { code: 'NOT_EMPTY' });
  await t.rejects(gfs.open('/none'), { code: 'NOT_FOUND' });
  await t.rejects(gfs.open('/d'), { code: 'IS_DIRECTORY' });
  await t.rejects(gfs.open('/d/größe', { create: true, exclusive: true }), { code: 'EXISTS' });
  await t.rejects(gfs.stat('relative'), { code: 'INVALID' });
});

t.test('records: appended by many through a mount, each is read once', { skip: cannotMount }, async (t) => {
  const cluster = await RealCluster.start(t, { chunkSize: '1MiB' });
  const path = join(cluster.mountPoint, 'events');
  const lines = (host: number) => Array.from({ length: 20 }, (_, i) => `host ${host} event ${i}`).join('\n');
  const outcomes = await Promise.all(
    [1, 2, 3].map((host) => cluster.gfs(['append', '--records', path], { input: lines(host) })),
  );
  for (const { status, stderr } of outcomes) t.equal(status, 0, stderr);
  const gfs = await connect(cluster.address);
  t.teardown(() => gfs.close());
  const record = new RecordWriter('00000000000000aa').encode(Buffer.alloc(200_000, 'x'));
  for (let i = 0; i < 8; i++) await gfs.recordAppend('/events', record);

  const { status, stdout, stderr } = await cluster.gfs(['cat', '--records', path]);
  t.equal(status, 0, stderr);
  const read = stdout.trimEnd().split('\n');
  t.equal(read.length, 61);
  for (const host of [1, 2, 3]) {
    t.equal(read.filter((line) => line.startsWith(`host ${host}`)).join('\n'), lines(host), 'in order, once');
  }
  t.match(stderr, /61 records; passed over 7 duplicates and \d+ bytes/);
  const reader = new RecordReader(() => undefined);
  reader.push(await readFile(path));
  t.same(reader.end().duplicates, 7);
});
