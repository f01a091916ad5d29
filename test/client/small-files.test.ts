/** Small files that are read one after another: few messages, and never old data. */
import t from 'tap';
import { copyRange, type GfsClient } from '../../client/index.js';
import { Create, ROOT_ID } from '../../protocol/messages/index.js';
import { startTwoClients } from './two-clients.js';

const FILES = 60;
t.setTimeout(300_000);

async function setUp(seed: number) {
  const { world, a, b, sleep } = await startTwoClients(seed);
  const wait = <T>(promise: Promise<T>): Promise<T> => world.until(promise);
  const write = async (client: GfsClient, id: number, text: string) => {
    const file = await wait(client.open(id, {}));
    await wait(file.write(0, Buffer.from(text)));
    await wait(file.flush({}));
    await wait(client.close(file));
  };
  const read = async (client: GfsClient, id: number): Promise<string> => {
    const file = await wait(client.open(id, {}));
    const { buffers, release } = await wait(file.read(0, 1_000, {}));
    const text = Buffer.concat(buffers).toString();
    release();
    await wait(client.close(file));
    return text;
  };
  const ids: number[] = [];
  for (let at = 0; at < FILES; at++) {
    const request = { parent: ROOT_ID, name: `f${at}`, mode: 0o100644, rdev: 0, exclusive: true };
    const { attributes } = await wait(a.master.mutate(Create, request));
    ids.push(attributes.id);
    await write(a, attributes.id, `first ${at}`);
  }
  await wait(b.metadata.directory(ROOT_ID, 0, {}));
  let messages = 0;
  const query = b.master.query.bind(b.master);
  b.master.query = ((...words: Parameters<typeof query>) => {
    messages++;
    return query(...words);
  }) as typeof b.master.query;
  const cut = (client: GfsClient, id: number, size: number) => wait(client.setAttributes(id, { size }, {}));
  return { world, a, b, ids, write, read, cut, sleep, messages: () => messages };
}

t.test('small files: read one after another take few messages', async (t) => {
  const { b, ids, read, messages } = await setUp(8101);
  for (const [at, id] of ids.entries()) t.equal(await read(b, id), `first ${at}`);
  t.ok(messages() <= 16, `${messages()} messages to the master for ${FILES} files`);
});

t.test('small files: those that many read beside each other take few messages too', async (t) => {
  const { world, b, ids, messages } = await setUp(8104);
  const lanes = Array.from({ length: 6 }, async (_, lane) => {
    for (let at = lane; at < FILES; at += 6) {
      const file = await b.open(ids[at] as number, {});
      const { buffers, release } = await file.read(0, 1_000, {});
      t.equal(Buffer.concat(buffers).toString(), `first ${at}`);
      release();
      await b.close(file);
    }
  });
  await world.until(Promise.all(lanes));
  t.ok(messages() <= 15, `${messages()} messages to the master for ${FILES} files`);
});

t.test(
  'small files: what another client or this one writes is read, whenever it was read ahead',
  async (t) => {
    const { a, b, ids, write, read, cut, sleep } = await setUp(8102);
    const wanted = ids.map((_, at) => `first ${at}`);
    const check = async (at: number) => t.equal(await read(b, ids[at] as number), wanted[at]);
    for (let at = 0; at < FILES - 4; at++) {
      // Those behind may have been fetched already, or are on their way.
      const [changed, shorter] = [at + 2, at + 4];
      if (at % 4 === 1) {
        for (const client of at % 8 === 1 ? [a, b] : [b, a]) {
          const text = `${client === a ? 'theirs' : 'mine!!'} ${at}`.padEnd(9);
          wanted[changed] = text;
          await write(client, ids[changed] as number, text);
          if (at % 3 === 0) await sleep(50);
          await check(changed);
        }
        wanted[shorter] = (wanted[shorter] as string).slice(0, 2);
        await cut(at % 8 === 1 ? a : b, ids[shorter] as number, 2);
      }
      await check(at);
    }
  },
);

t.test('small files: copies that share chunks are made without chunks of their own', async (t) => {
  const { world, a } = await startTwoClients(8103);
  const leases: boolean[] = [];
  const mutate = a.master.mutate.bind(a.master);
  a.master.mutate = (async (...words: Parameters<typeof mutate>) => {
    const reply = await mutate(...words);
    if (words[0].name === Create.name) leases.push((reply as { lease?: object }).lease !== undefined);
    return reply;
  }) as typeof mutate;
  const make = async (name: string) => {
    const request = { parent: ROOT_ID, name, mode: 0o100644, rdev: 0, exclusive: true };
    return (await world.until(a.create(request, {}))).file;
  };
  const source = await make('source');
  await world.until(source.write(0, Buffer.from('content')));
  await world.until(source.flush({}));
  for (let at = 0; at < 12; at++) {
    const copy = await make(`copy ${at}`);
    const from = { file: source, offset: 0 };
    t.equal(await world.until(copyRange(a, from, { file: copy, offset: 0 }, 7, {})), 7);
    await world.until(a.close(copy));
  }
  t.ok(leases.includes(true), 'the first ones had one ready');
  t.notOk(leases.slice(-6).includes(true), String(leases));
});
