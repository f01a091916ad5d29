/** Words of a row (docs/formats/checkpoint.md); words 0 and 1 are the id. */
export const NodeWord = {
  SIZE: 2,
  /** The handle of the only chunk, at index 0. */
  CHUNK: 4,
  /** The row of the first of its names. */
  ENTRY: 6,
  NEXT: 7,
  UID: 8,
  GID: 9,
  NLINK: 10,
  /** Mode below, the upper 16 bits of the data version above. */
  MODE: 11,
  DATA_VERSION: 12,
  ATIME: 13,
  MTIME: 15,
  CTIME: 17,
  /** Which side tables have something of it. */
  FLAGS: 19,
} as const;
export const NODE_WORDS = 20;
