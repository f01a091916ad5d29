import t from 'tap';
import { GfsFile } from '../../client/file.js';
import type { GfsClient } from '../../client/index.js';
import type { OpenFile } from '../../client/open-file.js';
import { MIB } from '../../protocol/limits.js';

t.test('readahead: grows while the reader goes on, up to 8 MiB, and ends with the reader', async (t) => {
  const asked: number[] = [];
  let released = 0;
  const read = (offset: number, length: number) => {
    asked.push(offset);
    return Promise.resolve({ buffers: [Buffer.alloc(length)], release: () => released++ });
  };
  const file = new GfsFile({} as GfsClient, { size: 64 * MIB, read } as unknown as OpenFile, {});
  const stream = file.readStream();
  const underWay: number[] = [];
  for (let taken = 0; taken < 6; taken++) {
    t.equal((await stream.next()).value?.byteLength, MIB);
    underWay.push(asked.length - taken);
  }
  t.same(underWay, [1, 2, 4, 8, 8, 8], 'MiB, the piece that is waited for among them');
  t.same(
    asked,
    Array.from(asked.keys(), (index) => index * MIB),
    'in order, each once',
  );
  await stream.return(undefined);
  t.equal(asked.length, 13);
  t.equal(released, asked.length, 'what nobody took has given its memory back');
});

t.test('readahead: nothing behind the end that was asked for', async (t) => {
  const asked: number[] = [];
  const read = (offset: number, length: number) => {
    asked.push(offset + length);
    return Promise.resolve({ buffers: [Buffer.alloc(length)], release: () => undefined });
  };
  const file = new GfsFile({} as GfsClient, { size: 64 * MIB, read } as unknown as OpenFile, {});
  for await (const piece of file.readStream(MIB / 2, 3 * MIB)) t.ok(piece.byteLength > 0);
  t.same(asked, [1.5 * MIB, 2.5 * MIB, 3 * MIB]);
});
