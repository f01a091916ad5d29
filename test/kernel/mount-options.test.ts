/** What surrounds the protocol: notifications, mount options, the table of mounts, finding the addon. */
import t from 'tap';
import type { Logger } from '../../environment/ports/index.js';
import type { MountOptions } from '../../fuse-client/handler.js';
import { fateIn } from '../../fuse-client/kernel/interruptions.js';
import { parseMountinfo } from '../../fuse-client/kernel/mountpoint.js';
import { invalidateEntryMessage, invalidateInodeMessage, Notices } from '../../fuse-client/kernel/notices.js';
import { helperOptions, kernelOptions, parseOptions } from '../../fuse-client/kernel/options.js';
import { ERRNO } from '../../protocol/errno.js';

const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MS_NOEXEC = 8;

function options(changes: Partial<MountOptions> = {}): MountOptions {
  return {
    directory: '/mnt',
    source: 'gfs',
    readOnly: false,
    allowOther: false,
    defaultPermissions: false,
    extra: [],
    ...changes,
  };
}

await t.test('options: flags of mount(2), options of FUSE, and what is for fstab alone', (t) => {
  t.equal(parseOptions(options()).flags, MS_NOSUID | MS_NODEV);
  t.equal(
    parseOptions(options({ readOnly: true, extra: ['noexec'] })).flags,
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
  );
  t.equal(parseOptions(options({ extra: ['suid', 'dev', 'ro', 'rw'] })).flags, 0);
  const parsed = parseOptions(
    options({
      allowOther: true,
      defaultPermissions: true,
      extra: ['allow_other', 'max_read=131072', '_netdev', 'x-y'],
    }),
  );
  t.equal(
    kernelOptions(parsed, 0, 5),
    'rootmode=40000,user_id=0,group_id=5,allow_other,default_permissions,max_read=131072',
  );
  t.throws(() => parseOptions(options({ extra: ['wirteback'] })), /"wirteback"/);
  t.end();
});

await t.test('options: fusermount3 is told the source with its commas escaped', (t) => {
  const parsed = parseOptions(options({ readOnly: true, extra: ['auto_unmount'] }));
  t.ok(parsed.autoUnmount);
  t.equal(helperOptions(parsed, 'a:1,b\\c'), 'fsname=a:1\\,b\\\\c,subtype=gfs,ro,auto_unmount');
  t.end();
});

await t.test('mountinfo: names with spaces, and optional fields', (t) => {
  const text = [
    '22 1 254:0 / / rw,relatime - ext4 /dev/vda rw',
    '42 27 0:39 / /mnt/a\\040b\\134\\303\\274 rw,nosuid shared:5 master:1 - fuse.gfs gfs:a\\054b rw,user_id=0',
    '',
  ].join('\n');
  t.strictSame(parseMountinfo(text), [
    { device: '254:0', directory: '/', type: 'ext4', source: '/dev/vda' },
    { device: '0:39', directory: '/mnt/a b\\ü', type: 'fuse.gfs', source: 'gfs:a,b' },
  ]);
  t.end();
});

await t.test('notices: are put together as the kernel reads them', (t) => {
  const inode = invalidateInodeMessage(2 ** 52, -1, 0);
  t.equal(inode.readUInt32LE(0), inode.length);
  t.equal(inode.readInt32LE(4), 2);
  t.equal(inode.readBigUInt64LE(8), 0n);
  t.equal(inode.readBigUInt64LE(16), 2n ** 52n);
  t.equal(inode.readBigInt64LE(24), -1n);
  const entry = invalidateEntryMessage(1, 'n\xff');
  t.equal(entry.readUInt32LE(0), entry.length);
  t.equal(entry.readInt32LE(4), 3);
  t.equal(entry.readUInt32LE(24), 2);
  t.strictSame(entry.subarray(32), Buffer.from([0x6e, 0xff, 0]));
  t.end();
});

await t.test(
  'notices: each promise resolves when as many are done, and those that cannot be sent at once',
  async (t) => {
    const warnings: string[] = [];
    const logger = {
      warn: (_fields: object, message: string) => warnings.push(message),
    } as unknown as Logger;
    let result = 0;
    const notices = new Notices(() => result, logger);
    const done: number[] = [];
    const sent = [0, 1, 2].map((i) => notices.send(Buffer.of()).then(() => done.push(i)));
    notices.onNotified(2);
    await Promise.all(sent.slice(0, 2));
    t.strictSame(done, [0, 1]);
    result = -ERRNO.EAGAIN;
    await notices.send(Buffer.of());
    t.equal(warnings.length, 1);
    notices.close();
    await Promise.all(sent);
    t.strictSame(done, [0, 1, 2]);
  },
);

await t.test('signals: those that end the caller end its requests, others do not', (t) => {
  const status = (waiting: string, blocked = '0', ignored = '0', caught = '0') =>
    `SigPnd:\t0000000000000000\nShdPnd:\t${waiting}\nSigBlk:\t${blocked}\nSigIgn:\t${ignored}\nSigCgt:\t${caught}\n`;
  const [INT, KILL, USR1, TERM, CHLD] = ['2', '100', '200', '4000', '10000'] as const;
  t.equal(fateIn(status('0')), 'lives');
  t.equal(fateIn(status(KILL, 'ffffffffffffffff')), 'ends', 'SIGKILL cannot be blocked');
  t.equal(fateIn(status(INT)), 'ends');
  t.equal(fateIn(status(INT, '0', '0', INT)), 'asked', 'with a handler');
  t.equal(fateIn(status(TERM, TERM)), 'lives', 'blocked');
  t.equal(fateIn(status(USR1)), 'ends');
  t.equal(fateIn(status(USR1, '0', '0', USR1)), 'lives');
  t.equal(fateIn(status(USR1, '0', USR1)), 'lives');
  t.equal(fateIn(status(CHLD)), 'lives');
  t.equal(fateIn(''), 'lives');
  t.end();
});
