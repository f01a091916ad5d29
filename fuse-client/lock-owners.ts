/**
 * Who has fcntl(2) locks through which open file. The locks of a process end with FLUSH, which names it; those of an
 * open file (F_OFD_SETLK) end with its RELEASE, of which the kernel does not tell the owner.
 */
export class LockOwners {
  /** By handle. An entry is of a process that has the file open, or of the open file itself. */
  readonly #owners = new Map<number, Set<bigint>>();

  locks(handle: number, owner: bigint): void {
    const owners = this.#owners.get(handle);
    if (owners === undefined) this.#owners.set(handle, new Set([owner]));
    else owners.add(owner);
  }

  knows(handle: number): boolean {
    return this.#owners.has(handle);
  }

  /** A process has closed its descriptor: what it locks through others, even before RELEASE comes, stays. */
  flushed(handle: number, owner: bigint): void {
    this.#owners.get(handle)?.delete(owner);
  }

  /** @returns whose locks end with the open file */
  released(handle: number): Iterable<bigint> {
    const owners = this.#owners.get(handle);
    this.#owners.delete(handle);
    return owners ?? [];
  }
}
