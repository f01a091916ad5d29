/** When the kernel may use the listing of a directory that it has kept. */
import t from 'tap';
import { KernelListings } from '../../fuse-client/kernel-listings.js';

const DIRECTORY = 7;
const TTL_MS = 2_000;

function world() {
  let nowMs = 1_000;
  let promised: object | undefined;
  const clock = { monotonicMs: () => nowMs, wallTime: () => ({ sec: 0, nsec: 0 }) };
  const listings = new KernelListings({ listing: () => promised }, clock, () => TTL_MS);
  return {
    listings,
    pass: (ms: number) => {
      nowMs += ms;
    },
    /** Another listing is promised, or none. */
    promise: (listing: object | undefined) => {
      promised = listing;
    },
    /** Opens it, reads all of it, closes it. @returns whether the kernel may use what it has */
    list: (): boolean => {
      const keep = listings.opened(DIRECTORY);
      if (!keep) for (let page = 0; page < 3; page++) listings.told(DIRECTORY, promised);
      listings.closed(DIRECTORY);
      return keep;
    },
  };
}

t.test('listings: what the kernel has is kept as long as it is promised and believed', async (t) => {
  const { list, promise, pass } = world();
  promise({});
  t.equal(list(), false, 'nothing was told yet');
  t.equal(list(), true);
  pass(TTL_MS - 1);
  t.equal(list(), true);
  pass(1);
  t.equal(list(), false, 'its names would be looked up one by one');
  t.equal(list(), true);
  promise({});
  t.equal(list(), false, 'another listing');
  t.equal(list(), true);
  promise(undefined);
  t.equal(list(), false, 'nothing is promised');
  t.equal(list(), false);
});

t.test('listings: one that changed while it was read is not kept', async (t) => {
  const { listings, list, promise } = world();
  const [before, after] = [{}, {}];
  promise(before);
  listings.opened(DIRECTORY);
  listings.told(DIRECTORY, before);
  promise(after);
  listings.told(DIRECTORY, after);
  listings.closed(DIRECTORY);
  t.equal(list(), false);
  t.equal(list(), true);
});

t.test('listings: what was told to one handle is not mixed with what another reads later', async (t) => {
  const { listings, list, promise } = world();
  const [before, after] = [{}, {}];
  promise(before);
  listings.opened(DIRECTORY);
  listings.told(DIRECTORY, before);
  promise(after);
  t.equal(list(), false, 'the other handle has read the old one in part');
  t.equal(list(), false, 'and may still hand it to the kernel');
  listings.told(DIRECTORY, after);
  listings.closed(DIRECTORY);
  t.equal(list(), false);
  t.equal(list(), true);
});
