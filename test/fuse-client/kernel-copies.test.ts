/** For how long the kernel may believe what a mount tells it. */
import t from 'tap';
import type { Metadata } from '../../client/index.js';
import type { Mount } from '../../fuse-client/handler.js';
import { InodeMap } from '../../fuse-client/inodes.js';
import { KernelCopies } from '../../fuse-client/kernel-copies.js';
import { ROOT_ID } from '../../protocol/messages/index.js';

/** What is left of a session, and of a promise, differs each time that it is asked for. */
function copies(leftMs: { attributes: number; entry: number; trust: number }, mount: Partial<Mount>) {
  const metadata = {
    listen: () => undefined,
    attributesTtlMs: () => leftMs.attributes,
    entryTtlMs: () => leftMs.entry,
    get trustMs() {
      return leftMs.trust;
    },
  } as unknown as Metadata;
  const limits = { attributeTtlMs: 1_500, entryTtlMs: 1_000 };
  const kernel = new KernelCopies(metadata, new InodeMap(ROOT_ID), limits);
  kernel.attach(mount as Mount);
  return {
    told: () => [kernel.attributeTtlMs(7), kernel.entryTtlMs(ROOT_ID, 'name', 7), kernel.listingTtlMs],
  };
}

const forgets = { invalidateInode: async () => undefined, invalidateEntry: async () => undefined };

t.test('kernel: believes no longer than the user allows, nor than what is left of the promise', async (t) => {
  const left = { attributes: 1_900, entry: 1_900, trust: 1_900 };
  const { told } = copies(left, forgets);
  t.same(told(), [1_500, 1_000, 1_000], 'as the user says');
  Object.assign(left, { attributes: 300, entry: 200, trust: 100 });
  t.same(told(), [300, 200, 100], 'the session is nearly over');
  Object.assign(left, { attributes: 0, entry: 0, trust: 0 });
  t.same(told(), [0, 0, 0], 'nothing is promised');
});

t.test('kernel: believes nothing where it cannot be told to forget', async (t) => {
  t.same(copies({ attributes: 1_900, entry: 1_900, trust: 1_900 }, {}).told(), [0, 0, 0]);
});
