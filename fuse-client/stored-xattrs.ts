/** Which extended attributes the cluster stores, and which it need not be asked for. */
import { LRUCache } from 'lru-cache';
import type { Clock } from '../environment/ports/index.js';
import { isAclName } from '../protocol/acl.js';
import { GfsError } from '../protocol/errors.js';
import type { Attributes } from '../protocol/messages/index.js';
import type { ByteString } from './handler.js';
import type { HandlerOptions } from './options.js';

const STORED = ['user.', 'trusted.', 'security.capability'];
const MAX_REMEMBERED = 65_536;

export class StoredXattrs {
  readonly #acls: boolean;
  /**
   * Node → when its attributes were told, without ACLs. The kernel asks for the ACL of everything that
   * somebody else's file is, and ls(1) of everything: the attributes have the answer already.
   */
  readonly #withoutAcl: LRUCache<number, true>;

  constructor(clock: Clock, options: HandlerOptions) {
    this.#acls = options.acls;
    const perf = { now: () => clock.monotonicMs() };
    this.#withoutAcl = new LRUCache({
      max: MAX_REMEMBERED,
      ttl: Math.max(1, options.attributeTtlMs),
      ttlResolution: 0,
      perf,
    });
  }

  /**
   * Security labels are not stored. To say so saves messages: ls(1) asks every file for its SELinux label
   * until it hears EOPNOTSUPP once.
   * @throws NOT_SUPPORTED
   */
  requireStored(name: ByteString): void {
    const isStored = isAclName(name) ? this.#acls : STORED.some((prefix) => name.startsWith(prefix));
    if (!isStored) throw new GfsError('NOT_SUPPORTED');
  }

  /** The master has just told these. */
  note({ id, hasAcl }: Attributes): void {
    if (!this.#acls) return;
    if (hasAcl === true) this.#withoutAcl.delete(id);
    else this.#withoutAcl.set(id, true);
  }

  forget(id: number): void {
    this.#withoutAcl.delete(id);
  }

  /** Answered for as long as the kernel may believe the attributes. */
  isKnownToBeAbsent(id: number, name: ByteString): boolean {
    return isAclName(name) && this.#withoutAcl.get(id) === true;
  }
}
