/** A broken invariant: a bug, or damage that went unseen. It ends the process; nobody catches it. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
