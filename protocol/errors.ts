/**
 * The one error table. A code exists only if some caller reacts to it in its own way; the number
 * crosses the wire, the errno is what a program on the mount sees, and `reaction` is what the caller does.
 */
import { ERRNO, type Errno } from './errno.js';

export type Reaction =
  /** Hand it to whoever asked: the same request would be answered so again. */
  | 'never'
  /** Drop the cached location, ask the master again, then retry. */
  | 'relocate'
  /** Send the same request again, to the same session and with the same sequence. */
  | 'resend'
  /** Retry after a pause that grows. */
  | 'wait';

interface ErrorEntry {
  readonly number: number;
  readonly errno: Errno;
  readonly reaction: Reaction;
}

const table = {
  // The namespace: each is an errno that a program expects.
  NOT_FOUND: { number: 1, errno: 'ENOENT', reaction: 'never' },
  EXISTS: { number: 2, errno: 'EEXIST', reaction: 'never' },
  NOT_DIRECTORY: { number: 3, errno: 'ENOTDIR', reaction: 'never' },
  IS_DIRECTORY: { number: 4, errno: 'EISDIR', reaction: 'never' },
  NOT_EMPTY: { number: 5, errno: 'ENOTEMPTY', reaction: 'never' },
  INVALID: { number: 6, errno: 'EINVAL', reaction: 'never' },
  NAME_TOO_LONG: { number: 7, errno: 'ENAMETOOLONG', reaction: 'never' },
  TOO_MANY_LINKS: { number: 8, errno: 'EMLINK', reaction: 'never' },
  CROSS_DEVICE: { number: 9, errno: 'EXDEV', reaction: 'never' },
  NO_SPACE: { number: 10, errno: 'ENOSPC', reaction: 'never' },
  READ_ONLY: { number: 11, errno: 'EROFS', reaction: 'never' },
  NO_ATTRIBUTE: { number: 12, errno: 'ENODATA', reaction: 'never' },
  RANGE: { number: 13, errno: 'ERANGE', reaction: 'never' },
  TOO_BIG: { number: 14, errno: 'E2BIG', reaction: 'never' },
  FILE_TOO_BIG: { number: 15, errno: 'EFBIG', reaction: 'never' },
  NOT_SUPPORTED: { number: 16, errno: 'EOPNOTSUPP', reaction: 'never' },
  NOT_PERMITTED: { number: 17, errno: 'EPERM', reaction: 'never' },
  ACCESS_DENIED: { number: 18, errno: 'EACCES', reaction: 'never' },
  BAD_HANDLE: { number: 19, errno: 'EBADF', reaction: 'never' },
  /** The node id is not known: the file was deleted and reclaimed. */
  STALE_NODE: { number: 20, errno: 'ESTALE', reaction: 'never' },
  SYMLINK_LOOP: { number: 21, errno: 'ELOOP', reaction: 'never' },
  NOT_AN_IOCTL: { number: 22, errno: 'ENOTTY', reaction: 'never' },
  /** Past the last byte (SEEK_DATA, SEEK_HOLE). */
  NO_SUCH_OFFSET: { number: 23, errno: 'ENXIO', reaction: 'never' },
  /** A file lock of somebody else is in the way. */
  LOCKED: { number: 30, errno: 'EAGAIN', reaction: 'never' },
  /** Who holds the lock waits for one of ours. */
  DEADLOCK: { number: 31, errno: 'EDEADLK', reaction: 'never' },
  /** More locks, or more who wait for one, than a table holds. */
  NO_LOCKS: { number: 32, errno: 'ENOLCK', reaction: 'never' },
  /** It was held, and is no more: this mount was away for too long. What it protected may have been changed since. */
  LOCK_LOST: { number: 33, errno: 'EIO', reaction: 'never' },

  // Connections and sessions.
  MALFORMED: { number: 40, errno: 'EIO', reaction: 'never' },
  UNKNOWN_MESSAGE: { number: 41, errno: 'EIO', reaction: 'never' },
  WRONG_PROTOCOL_VERSION: { number: 42, errno: 'EPROTO', reaction: 'never' },
  WRONG_CLUSTER: { number: 43, errno: 'EPROTO', reaction: 'never' },
  /** A bounded queue is full. */
  OVERLOADED: { number: 44, errno: 'EAGAIN', reaction: 'wait' },
  CANCELLED: { number: 45, errno: 'EINTR', reaction: 'never' },
  DEADLINE_EXCEEDED: { number: 46, errno: 'ETIMEDOUT', reaction: 'never' },
  /** The connection broke; the request may or may not have happened. */
  DISCONNECTED: { number: 47, errno: 'EIO', reaction: 'resend' },
  UNREACHABLE: { number: 48, errno: 'EIO', reaction: 'wait' },
  SESSION_UNKNOWN: { number: 49, errno: 'EIO', reaction: 'resend' },
  STALE_TERM: { number: 50, errno: 'EIO', reaction: 'wait' },
  /** The master has just started and does not know its chunkservers yet. */
  NOT_READY: { number: 51, errno: 'EAGAIN', reaction: 'wait' },
  /** A mutation's result is no longer remembered: it may or may not have happened. */
  UNKNOWN_OUTCOME: { number: 52, errno: 'EIO', reaction: 'never' },
  /** Two chunkservers claim one server id, or a data directory is in use. */
  DUPLICATE_SERVER: { number: 53, errno: 'EBUSY', reaction: 'never' },
  /** It is in the master's log, and too few log replicas have it: whether it happened is known when they are back. */
  OUTCOME_PENDING: { number: 54, errno: 'EIO', reaction: 'wait' },

  // Chunks.
  NOT_PRIMARY: { number: 70, errno: 'EIO', reaction: 'relocate' },
  STALE_CHUNK_VERSION: { number: 71, errno: 'EIO', reaction: 'relocate' },
  NO_SUCH_CHUNK: { number: 72, errno: 'EIO', reaction: 'relocate' },
  /** A block of this replica does not match its checksum: another replica has it. */
  CHUNK_CORRUPT: { number: 73, errno: 'EIO', reaction: 'relocate' },
  /** A replica did not acknowledge the mutation: its region is inconsistent until it is repeated. */
  REPLICA_FAILED: { number: 74, errno: 'EIO', reaction: 'relocate' },
  /** The append does not fit: it goes to the file's next chunk, which the appender knows. */
  CHUNK_FULL: { number: 75, errno: 'EIO', reaction: 'never' },
  /** Pushed data has left the buffer: push again. */
  DATA_NOT_BUFFERED: { number: 76, errno: 'EIO', reaction: 'resend' },
  /** No replica of the chunk is on a live chunkserver. */
  CHUNK_UNAVAILABLE: { number: 77, errno: 'EIO', reaction: 'wait' },
  /** Fewer chunkservers than one could take a new chunk. */
  NO_CHUNKSERVERS: { number: 78, errno: 'ENOSPC', reaction: 'wait' },
  /** Every replica of the chunk is damaged. */
  CHUNK_LOST: { number: 79, errno: 'EIO', reaction: 'never' },

  /** Anything unforeseen. EIO and never ENOSYS: the kernel remembers ENOSYS and stops asking. */
  INTERNAL: { number: 99, errno: 'EIO', reaction: 'never' },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof table;

const codeOfNumber = new Map<number, ErrorCode>(
  Object.entries(table).map(([code, entry]) => [entry.number, code as ErrorCode]),
);

/**
 * Answers like any other, given for most files that are made or looked at: where such an error was made tells
 * nobody anything, and to walk the stack takes twenty times as long as all the rest of it (12 of 13 us).
 */
const ORDINARY: ReadonlySet<ErrorCode> = new Set(['NOT_FOUND', 'NO_ATTRIBUTE']);

/** The one error class from master to kernel. Tests assert `code`, never the message. */
export class GfsError extends Error {
  override readonly name = 'GfsError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message?: string, options?: ErrorOptions) {
    const { stackTraceLimit } = Error;
    if (ORDINARY.has(code)) Error.stackTraceLimit = 0;
    super(message ?? code, options);
    Error.stackTraceLimit = stackTraceLimit;
    this.code = code;
  }

  get errno(): Errno {
    return table[this.code].errno;
  }

  /** The positive errno number. */
  get errnoNumber(): number {
    return ERRNO[table[this.code].errno];
  }

  get reaction(): Reaction {
    return reactionTo(this.code);
  }
}

export function reactionTo(code: ErrorCode): Reaction {
  return table[code].reaction;
}

export function errorNumber(code: ErrorCode): number {
  return table[code].number;
}

/** The code of a number from the wire; one that this version does not know is INTERNAL. */
export function errorCodeOf(number: number): ErrorCode {
  return codeOfNumber.get(number) ?? 'INTERNAL';
}

/** Any thrown value as a {@link GfsError}: a disk that is full stays ENOSPC, the unknown is INTERNAL. */
export function toGfsError(thrown: unknown): GfsError {
  if (thrown instanceof GfsError) return thrown;
  const code = (thrown as { code?: unknown } | null)?.code;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  if (code === 'ENOSPC' || code === 'EDQUOT') return new GfsError('NO_SPACE', message, { cause: thrown });
  if (code === 'EROFS') return new GfsError('READ_ONLY', message, { cause: thrown });
  return new GfsError('INTERNAL', message, { cause: thrown });
}
