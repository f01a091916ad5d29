/** Several small writes that travel as one mutation: each has a serial number and a record of its own. */
import { GfsError } from '../protocol/errors.js';
import type { Mutation } from './store/planner.js';

export interface Part {
  readonly offset: number;
  readonly length: number;
}

/** What a message asks for, as {@link partsOf} reads it. */
interface Written extends Part {
  readonly parts?: readonly Part[] | undefined;
}

/** Where the bytes go: one part, unless the message lists them. @throws INVALID */
export function partsOf({ offset, length, parts }: Written, chunkBytes: number): readonly Part[] {
  const all = parts ?? [{ offset, length }];
  let sizeBytes = 0;
  for (const part of all) {
    if (part.length === 0 || part.offset + part.length > chunkBytes)
      throw new GfsError('INVALID', 'write outside the chunk');
    sizeBytes += part.length;
  }
  if (sizeBytes !== length || all.length === 0)
    throw new GfsError('INVALID', `parts of ${sizeBytes} bytes for a write of ${length}`);
  return all;
}

/** The mutations of the parts. Whoever asks for it again asks whether the last was done: none is without those before. */
export function mutationsOf(
  parts: readonly Part[],
  bytes: Uint8Array,
  {
    serial,
    session,
    sequence,
    pageSums,
  }: Pick<Mutation, 'session' | 'sequence' | 'pageSums'> & { readonly serial: number },
): Mutation[] {
  if (parts.length === 1) {
    const { offset } = parts[0] as Part;
    return [{ kind: 'write', serial, offset, bytes, pageSums, session, sequence }];
  }
  let at = 0;
  return parts.map(({ offset, length }, i) => {
    const start = at;
    at += length;
    const id = i === parts.length - 1 ? { session, sequence } : { session: 0, sequence: 0 };
    return { kind: 'write', serial: serial + i, offset, bytes: bytes.subarray(start, at), ...id };
  });
}
