/** The ioctls' numbers and bytes: `fuse-client/ioctl.ts` against the C header, and against itself. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import {
  CHUNK_INFO_TEXT_MAX_BYTES,
  decodeChunkInfo,
  decodeChunkInfoReply,
  decodeOffset,
  decodeRecordAppend,
  decodeSnapshot,
  encodeChunkInfo,
  encodeChunkInfoReply,
  encodeOffset,
  encodeRecordAppend,
  encodeSnapshot,
  Ioctl,
  ioctlSizeBytes,
  isGfsIoctl,
  RECORD_APPEND_MAX_BYTES,
} from '../../fuse-client/ioctl.js';
import { repositoryRoot } from './support.js';

const INCLUDE = path.join(repositoryRoot, 'fuse-client/include');
const EXAMPLES = path.join(repositoryRoot, 'examples/c');

function haveGcc(): boolean {
  try {
    execFileSync('gcc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** Compiles and runs a C program that prints `name value` lines. */
function runC(directory: string, body: string): Map<string, number> {
  const program = path.join(directory, 'numbers');
  const source = `#include <stddef.h>\n#include <stdio.h>\n#include "gfs_ioctl.h"\nint main(void) {\n${body}\nreturn 0; }\n`;
  execFileSync('gcc', ['-Wall', '-Werror', '-I', INCLUDE, '-x', 'c', '-o', program, '-'], { input: source });
  const lines = execFileSync(program, { encoding: 'utf8' }).trim().split('\n');
  return new Map(lines.map((line) => [line.split(' ')[0]!, Number(line.split(' ')[1])]));
}

t.test(
  'ioctl: the C header and the TypeScript twin agree',
  { skip: haveGcc() ? false : 'gcc is not installed' },
  async (t) => {
    const directory = mkdtempSync(path.join(tmpdir(), 'gfs-ioctl-'));
    t.teardown(() => rmSync(directory, { recursive: true }));

    const print = (name: string, expression: string) =>
      `printf("${name} %lu\\n", (unsigned long)(${expression}));`;
    const numbers = runC(
      directory,
      [
        ...Object.keys(Ioctl).map((name) => print(name, `GFS_IOC_${name}`)),
        print('record.size', 'sizeof(struct gfs_record_append)'),
        print('record.offset', 'offsetof(struct gfs_record_append, offset)'),
        print('record.length', 'offsetof(struct gfs_record_append, length)'),
        print('record.data', 'offsetof(struct gfs_record_append, data)'),
        print('record.max', 'GFS_RECORD_APPEND_MAX'),
        print('snapshot.size', 'sizeof(struct gfs_snapshot)'),
        print('chunks.size', 'sizeof(struct gfs_chunk_info)'),
        print('chunks.next', 'offsetof(struct gfs_chunk_info, next)'),
        print('chunks.length', 'offsetof(struct gfs_chunk_info, length)'),
        print('chunks.text', 'offsetof(struct gfs_chunk_info, text)'),
        print('chunks.max', 'GFS_CHUNK_INFO_MAX'),
      ].join('\n'),
    );

    for (const [name, command] of Object.entries(Ioctl)) t.equal(command, numbers.get(name), name);
    t.equal(ioctlSizeBytes(Ioctl.RECORD_APPEND), numbers.get('record.size'));
    t.equal(RECORD_APPEND_MAX_BYTES, numbers.get('record.max'));
    t.equal(ioctlSizeBytes(Ioctl.SNAPSHOT), numbers.get('snapshot.size'));
    t.equal(ioctlSizeBytes(Ioctl.CHUNK_INFO), numbers.get('chunks.size'));
    t.equal(CHUNK_INFO_TEXT_MAX_BYTES + 1, numbers.get('chunks.max'));

    const record = encodeRecordAppend(Buffer.from('abc'));
    t.equal(record[numbers.get('record.length')!], 3, 'the length is where C looks for it');
    t.equal(record[numbers.get('record.data')!], 'a'.charCodeAt(0), 'the data is where C looks for it');
    t.equal(numbers.get('record.offset'), 0, 'the offset comes first: a reply of 8 bytes sets it');
    const info = encodeChunkInfoReply(0, { next: 7, json: '[]' });
    t.equal(info[numbers.get('chunks.next')!], 7);
    t.equal(info[numbers.get('chunks.length')!], 2);
    t.equal(info[numbers.get('chunks.text')!], '['.charCodeAt(0));
    t.equal(info.at(-1), 0, 'the text ends with NUL');
  },
);

t.test(
  'ioctl: the header is strict C, and the examples compile without a warning',
  { skip: haveGcc() ? false : 'gcc is not installed' },
  async (t) => {
    for (const example of readdirSync(EXAMPLES).filter((name) => name.endsWith('.c'))) {
      execFileSync('gcc', [
        '-Wall',
        '-Wextra',
        '-Werror',
        '-I',
        INCLUDE,
        '-fsyntax-only',
        path.join(EXAMPLES, example),
      ]);
      t.pass(example);
    }
    execFileSync('gcc', [
      '-Wall',
      '-Wextra',
      '-Werror',
      '-pedantic',
      '-std=c99',
      '-x',
      'c',
      '-fsyntax-only',
      path.join(INCLUDE, 'gfs_ioctl.h'),
    ]);
  },
);

t.test('ioctl: commands are of type G and fit what FUSE carries', async (t) => {
  for (const [name, command] of Object.entries(Ioctl)) {
    t.ok(isGfsIoctl(command), name);
    t.ok(ioctlSizeBytes(command) <= 16_383, `${name} is small enough`);
  }
  const FS_IOC_GETFLAGS = 0x80086601;
  t.notOk(isGfsIoctl(FS_IOC_GETFLAGS), 'what lsattr asks is not ours');
  t.equal(new Set(Object.values(Ioctl)).size, Object.keys(Ioctl).length, 'no two are the same');
});

t.test('ioctl: structures decode to what was encoded', async (t) => {
  const offset = fc.nat(Number.MAX_SAFE_INTEGER);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: RECORD_APPEND_MAX_BYTES }), (data) => {
      t.same(Buffer.from(decodeRecordAppend(encodeRecordAppend(data))), Buffer.from(data));
    }),
    { numRuns: 20 },
  );
  fc.assert(fc.property(offset, (n) => decodeOffset(encodeOffset(n)) === n));
  fc.assert(fc.property(offset, (n) => decodeChunkInfo(encodeChunkInfo(n)) === n));
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 4095 }), (bytes) => {
      const name = Buffer.from(bytes.map((byte) => byte || 1)).toString('latin1');
      return decodeSnapshot(encodeSnapshot(name)) === name;
    }),
  );
  fc.assert(
    fc.property(offset, fc.string({ unit: 'binary', maxLength: 4000 }), (next, json) => {
      const back = decodeChunkInfoReply(encodeChunkInfoReply(0, { next, json }));
      return back.next === next && back.json === json;
    }),
  );
});

t.test('ioctl: malformed arguments are EINVAL', async (t) => {
  const invalid = { code: 'INVALID' };
  t.throws(() => decodeRecordAppend(new Uint8Array(8)), invalid, 'too few bytes');
  t.throws(() => decodeRecordAppend(encodeRecordAppend(new Uint8Array(0))), invalid, 'an empty record');
  const long = encodeRecordAppend(Buffer.from('x'));
  new DataView(long.buffer).setUint32(8, RECORD_APPEND_MAX_BYTES + 1, true);
  t.throws(() => decodeRecordAppend(long), invalid, 'a length past the structure');
  const reserved = encodeRecordAppend(Buffer.from('x'));
  reserved[12] = 1;
  t.throws(() => decodeRecordAppend(reserved), invalid, 'a reserved field that is set');
  t.throws(() => decodeSnapshot(new Uint8Array(4096)), invalid, 'an empty destination');
  t.throws(() => decodeSnapshot(new Uint8Array(4096).fill(65)), invalid, 'no NUL');
  t.throws(() => encodeSnapshot('x'.repeat(4096)), { code: 'NAME_TOO_LONG' });
  const chunks = encodeChunkInfo(0);
  chunks.fill(0xff, 0, 8);
  t.throws(() => decodeChunkInfo(chunks), invalid, 'an index beyond 2^53');
  t.throws(() => decodeChunkInfo(new Uint8Array(0)), invalid);
});
