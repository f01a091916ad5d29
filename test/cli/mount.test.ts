import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { splitSource } from '../../cli/commands/mount.js';
import { coordinates } from '../../cli/flags.js';
import { parseMountOptions } from '../../cli/mount-options.js';
import { prepareMountPoint } from '../../cli/mount-point.js';
import { canonical, isGfs, parseMountInfo } from '../../cli/mounts.js';

const directory = mkdtempSync(join(tmpdir(), 'gfs-mount-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));

t.test('mount options: defaults are those of a local disk', async (t) => {
  t.match(parseMountOptions([], true), {
    readOnly: false,
    allowOther: true,
    defaultPermissions: true,
    binding: undefined,
    nonEmpty: false,
    extra: [],
  });
  t.equal(parseMountOptions([], false).allowOther, false);
});

t.test('mount options: each is understood, later ones win', async (t) => {
  const options = parseMountOptions(
    [
      'ro,noallow_other,location=1.5,-2,rack=a1',
      'binding=fuse-native,attr_timeout=0.5,entry_timeout=2s',
      'hard,rw,nosuid',
    ],
    true,
  );
  t.match(options, {
    readOnly: false,
    allowOther: false,
    location: { x: 1.5, y: -2 },
    rack: 'a1',
    binding: 'fuse-native',
    attributeTtlMs: 500,
    entryTtlMs: 2000,
    hard: true,
    extra: ['nosuid'],
  });
});

t.test('mount options: what fstab holds for others is passed over', async (t) => {
  t.same(parseMountOptions(['defaults,_netdev,noauto,x-systemd.automount'], true).extra, []);
});

t.test('mount options: unknown and malformed ones are refused by name', async (t) => {
  const refused = (text: string, message: RegExp) =>
    t.throws(() => parseMountOptions([text], true), { message, exitCode: 2 }, text);
  refused('allow_othr', /unknown mount option allow_othr: did you mean allow_other\?/);
  refused('compress', /unknown mount option compress/);
  refused('foo', /unknown mount option foo: known are/);
  refused('ro=1', /ro takes no value/);
  refused('binding=fuse', /kernel or fuse-native/);
  refused('location=1', /location=X,Y/);
  refused('location=1,ro', /location=X,Y/);
  refused('location', /location=X,Y/);
  refused('rack=', /rack must be/);
  refused('attr_timeout=soon', /attr_timeout must be/);
  refused('toString', /unknown mount option/);
});

t.test('mount source: hosts and the path below them', async (t) => {
  t.same(splitSource('h'), { masters: 'h', path: '/' });
  t.same(splitSource('h:5000'), { masters: 'h:5000', path: '/' });
  t.same(splitSource('h1:5000,h2:/a/b:/c'), { masters: 'h1:5000,h2', path: '/a/b:/c' });
  t.same(splitSource('[::1]:5000:/'), { masters: '[::1]:5000', path: '/' });
});

t.test(
  'location: a pair is coordinates, anything else is left for the configuration to refuse',
  async (t) => {
    t.equal(coordinates('1,2'), '[1,2]');
    t.equal(coordinates('[1,2]'), '[1,2]');
  },
);

t.test('mounts: mountinfo is read with its escapes and optional fields', async (t) => {
  const mounts = parseMountInfo(
    [
      '22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw',
      '40 22 0:35 / /mnt/a\\040b rw,nosuid shared:2 master:3 - fuse.gfs 127.0.0.1:5000:/ rw,user_id=0',
      '41 22 0:36 / /mnt/c rw - fuse.sshfs host: rw',
      'a line that is none',
      '',
    ].join('\n'),
  );
  t.same(mounts, [
    { mountPoint: '/', type: 'ext4', source: '/dev/vda', minor: 0 },
    { mountPoint: '/mnt/a b', type: 'fuse.gfs', source: '127.0.0.1:5000:/', minor: 35 },
    { mountPoint: '/mnt/c', type: 'fuse.sshfs', source: 'host:', minor: 36 },
  ]);
  t.same(mounts.map(isGfs), [false, true, false]);
});

t.test('mounts: a path is canonical though its last part is not there', async (t) => {
  const real = canonical(join(directory, 'real'));
  mkdirSync(real);
  symlinkSync(real, join(directory, 'link'));
  t.equal(canonical(join(directory, 'link', 'new')), join(real, 'new'));
  t.equal(canonical('/'), '/');
});

const wishes = { create: false, allowNonEmpty: false, tell: () => undefined };

t.test('mount point: missing, a file, not empty: each is refused with what to do', async (t) => {
  await t.rejects(prepareMountPoint(join(directory, 'none'), wishes), {
    message: /does not exist\nMake it first: mkdir -p/,
  });
  writeFileSync(join(directory, 'file'), '');
  await t.rejects(prepareMountPoint(join(directory, 'file'), wishes), { message: /is not a directory/ });
  await t.rejects(prepareMountPoint(join(directory, 'file', 'below'), { ...wishes, create: true }), {
    message: /cannot make the mount point/,
  });
  mkdirSync(join(directory, 'full', 'x'), { recursive: true });
  await t.rejects(prepareMountPoint(join(directory, 'full'), wishes), {
    message: /is not empty.*\n.*-o nonempty/,
  });
});

t.test('mount point: made where that is wished, and a full one is used where that is', async (t) => {
  const made = join(directory, 'deep', 'er');
  t.equal(await prepareMountPoint(made, { ...wishes, create: true }), canonical(made));
  const full = join(directory, 'full');
  t.equal(await prepareMountPoint(full, { ...wishes, allowNonEmpty: true }), canonical(full));
});

t.test('mount point: a mount of others is not touched', async (t) => {
  await t.rejects(prepareMountPoint('/proc', wishes), { message: /has a mount of proc \(proc\) already/ });
});
