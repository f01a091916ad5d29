/** The suite itself, on the local disk as the oracle; then the kernel binding over memory. */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Capability } from '../../fuse-client/handler.js';
import { startMount } from './mounted.js';
import { conformance } from './suite.js';

const all = new Set<Capability>([
  'ioctl',
  'copy_file_range',
  'locks',
  'fallocate',
  'lseek',
  'readdirplus',
  'rename_flags',
  'notifications',
  'caller_identity',
  'interrupt',
  'byte_names',
  'utimens_separate',
  'create_flags',
  'tmpfile',
  'statfs_64bit',
  'exact_times',
  'acls',
]);

t.setTimeout(600_000);
await t.test('local disk', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'gfs-oracle-'));
  await chmod(directory, 0o755);
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  await conformance(t, directory, all);
});

await t.test(
  'kernel binding',
  { skip: process.geteuid?.() === 0 ? false : 'mounting needs root' },
  async (t) => {
    const { path } = await startMount(t, 'kernel');
    await conformance(t, path, new Set([...all].filter((capability) => capability !== 'acls')));
  },
);
