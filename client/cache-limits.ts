/** How much a client keeps of what it was told. */
export interface CacheLimits {
  /** Files of which chunk locations and leases are kept, and of each so many chunks. */
  readonly locatedFiles: number;
  readonly chunksOfFile: number;
  /** Nodes whose attributes are kept, and of those the extended ones. */
  readonly attributes: number;
  readonly xattrs: number;
  readonly directories: number;
  /** Names of all directories together; then directories that were not used lately are forgotten. */
  readonly names: number;
  /** Changes remembered for answers that are on their way; older answers are not kept. */
  readonly changes: number;
  /** Files of which is known at what version of their data the kernel's pages are. */
  readonly dataVersions: number;
  /** Chunks that an fsync has to cover, written and shared ones each; above it the oldest are flushed unasked. */
  readonly unsyncedChunks: number;
  /** Names of a directory, and places of its files, that are asked for one by one before others are read ahead. */
  readonly namesBeforeAhead: number;
  readonly placesBeforeAhead: number;
  /** The same for directories that are listed, of one that was listed before. */
  readonly listingsBeforeAhead: number;
}

export const defaultCacheLimits: CacheLimits = {
  locatedFiles: 16_384,
  chunksOfFile: 4_096,
  attributes: 262_144,
  xattrs: 65_536,
  directories: 65_536,
  names: 1_048_576,
  changes: 65_536,
  dataVersions: 65_536,
  unsyncedChunks: 65_536,
  namesBeforeAhead: 8,
  placesBeforeAhead: 4,
  listingsBeforeAhead: 2,
};
