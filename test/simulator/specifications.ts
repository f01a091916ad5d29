/** What one block of a file and one small directory may do, for the linearisability checker. */
import type { Operation, Specification } from './linearizability.js';

/** A block is written as a whole; `value` tells who wrote it, 0 is the beginning. */
export type BlockCall =
  | { readonly kind: 'write' | 'read'; readonly value: number }
  /** What was written as `value`, and all before it, is on the disks. */
  | { readonly kind: 'sync'; readonly value: number }
  /** A host lost its memory: what is not on the disks may be gone. */
  | { readonly kind: 'powerCut' };

interface Block {
  readonly value: number;
  /** It and what a power cut may bring back instead, in the order in which it was written. */
  readonly written: readonly number[];
}

/** Where no host loses its memory: nothing comes back. */
export const blockSpecification: Specification<number, BlockCall> = {
  initial: 0,
  keyOf: (value) => String(value),
  step: (value, call) => {
    if (call.kind === 'write') return [call.value];
    return call.kind === 'read' && call.value !== value ? [] : [value];
  },
};

export const volatileBlockSpecification: Specification<Block, BlockCall> = {
  initial: { value: 0, written: [0] },
  keyOf: ({ value, written }) => `${value}<${written.join()}`,
  step: ({ value, written }, call) => {
    if (call.kind === 'write') {
      const others = written.filter((other) => other !== value);
      return [{ value: call.value, written: [...others, value, call.value] }];
    }
    if (call.kind === 'read') return call.value === value ? [{ value, written }] : [];
    if (call.kind === 'powerCut') return written.map((back) => ({ value: back, written }));
    if (value === call.value) return [{ value, written: [value] }];
    const at = written.indexOf(call.value);
    if (at < 0) return [{ value, written }];
    const still = written.slice(at);
    return [{ value, written: still.includes(value) ? still : [value, ...still] }];
  },
};

/** At one replica: a power cut stands for whatever may take back what is not there for good. */
export type ReplicaCall = BlockCall;

interface ReplicaBlock extends Block {
  /** Taken back: whoever did not hear of their end may write them again. */
  readonly undone: readonly number[];
}

/** It lacks what every replica was said to have: nobody is sent there, until it is repaired. */
const BEHIND = -1;

export const replicaSpecification: Specification<ReplicaBlock, ReplicaCall> = {
  initial: { value: 0, written: [0], undone: [] },
  keyOf: ({ value, written, undone }) => `${value}<${written.join()}<${undone.join()}`,
  step: ({ value, written, undone }, call) => {
    if (call.kind === 'read') {
      if (call.value === value) return [{ value, written, undone }];
      if (!undone.includes(call.value)) return [];
      return [{ value: call.value, written, undone: undone.filter((other) => other !== call.value) }];
    }
    if (call.kind === 'powerCut') {
      return written.map((back, at) => ({ value: back, written, undone: written.slice(at + 1) }));
    }
    if (call.kind === 'write') {
      const before = written.filter((other) => other !== call.value);
      const left = undone.filter((other) => other !== call.value);
      return [{ value: call.value, written: [...before, call.value], undone: left }];
    }
    const at = written.indexOf(call.value);
    if (at < 0) return [{ value, written, undone }];
    const still = written.slice(at);
    const left = undone.filter((other) => still.includes(other));
    if (still.includes(value)) return [{ value, written: still, undone: left }];
    // Unless whoever writes it again has done so here and nobody has looked yet.
    const redone = left.map((other) => ({
      value: other,
      written: still,
      undone: left.filter((each) => each !== other),
    }));
    return [{ value: BEHIND, written: still, undone: [] }, ...redone];
  },
};

/**
 * Without the reads that a write under way explains. Replicas take a write one after another, so another mount may
 * see it at one of them and then, at the next, not yet: across replicas nothing is promised of it before it is
 * acknowledged (at each by itself there is an order: replica-order.ts). One
 * without an answer is under way until a later one is acknowledged, which every replica took after it.
 */
export function withoutReadsUnderWay(history: readonly Operation<BlockCall>[]): Operation<BlockCall>[] {
  const writes = history.filter(({ call }) => call.kind === 'write');
  const settledAt = (write: Operation<BlockCall>): number => {
    if (write.returnedAt !== Number.POSITIVE_INFINITY) return write.returnedAt;
    const later = writes.filter(({ invokedAt }) => invokedAt > write.invokedAt);
    return Math.min(...later.map(({ returnedAt }) => returnedAt));
  };
  return history.filter(({ call, invokedAt, returnedAt }) => {
    if (call.kind !== 'read') return true;
    const write = writes.find((each) => each.call.kind === 'write' && each.call.value === call.value);
    return write === undefined || write.invokedAt > returnedAt || settledAt(write) < invokedAt;
  });
}

/** A node that somebody made who never heard of it. */
export const UNKNOWN_NODE = -1;

/** Operations on the names of one directory, with what they answered. */
export type NameCall =
  /** `node` is what was made; undefined: the name was there. */
  | { readonly kind: 'create'; readonly name: string; readonly node: number | undefined }
  /** `node` undefined: there was no such name; `any`: whatever was there. */
  | { readonly kind: 'unlink'; readonly name: string; readonly node: number | undefined | 'any' }
  | { readonly kind: 'lookup'; readonly name: string; readonly node: number | undefined }
  | { readonly kind: 'link'; readonly name: string; readonly node: number; readonly result: LinkResult }
  | {
      readonly kind: 'rename';
      readonly from: string;
      readonly to: string;
      readonly mode: 'replace' | 'noreplace' | 'exchange';
      readonly result: 'done' | 'no source or target' | 'exists';
    }
  | { readonly kind: 'list'; readonly entries: readonly (readonly [name: string, node: number])[] };

export type LinkResult = 'done' | 'exists' | 'gone';

/** Sorted by name, so that equal directories have equal keys. */
type Names = readonly (readonly [name: string, node: number])[];

function nodeAt(names: Names, name: string): number | undefined {
  return names.find(([other]) => other === name)?.[1];
}

function withName(names: Names, name: string, node: number | undefined): Names {
  const others = names.filter(([other]) => other !== name);
  if (node === undefined) return others;
  return [...others, [name, node] as const].sort(([a], [b]) => (a < b ? -1 : 1));
}

export const directorySpecification: Specification<Names, NameCall> = {
  initial: [],
  keyOf: (names) => names.map(([name, node]) => `${name}=${node}`).join(),
  // Of two names that are one node now, and were not, or will not be.
  canWait: (call) => call.kind === 'rename' && call.result === 'done',
  step: (names, call) => {
    if (call.kind === 'create') return create(names, call);
    if (call.kind === 'unlink') {
      const isIt = call.node === 'any' || call.node === nodeAt(names, call.name);
      return isIt ? [withName(names, call.name, undefined)] : [];
    }
    if (call.kind === 'lookup') return nodeAt(names, call.name) === call.node ? [names] : [];
    if (call.kind === 'list') {
      const listed = [...call.entries].sort(([a], [b]) => (a < b ? -1 : 1));
      return JSON.stringify(listed) === JSON.stringify(names) ? [names] : [];
    }
    if (call.kind === 'link') return link(names, call);
    return rename(names, call);
  },
};

type CallOf<Kind> = Extract<NameCall, { readonly kind: Kind }>;

function create(names: Names, { name, node }: CallOf<'create'>): Names[] {
  const isThere = nodeAt(names, name) !== undefined;
  if (node === undefined) return isThere ? [names] : [];
  return isThere ? [] : [withName(names, name, node)];
}

function link(names: Names, { name, node, result }: CallOf<'link'>): Names[] {
  const isThere = nodeAt(names, name) !== undefined;
  const isLinked = names.some(([, other]) => other === node);
  if (result === 'gone') return isLinked ? [] : [names];
  if (result === 'exists') return isThere ? [names] : [];
  return isLinked && !isThere ? [withName(names, name, node)] : [];
}

function rename(names: Names, { from, to, mode, result }: CallOf<'rename'>): Names[] {
  const moved = nodeAt(names, from);
  const target = nodeAt(names, to);
  const lacksTarget = mode === 'exchange' && target === undefined;
  if (result === 'no source or target') return moved === undefined || lacksTarget ? [names] : [];
  if (moved === undefined || lacksTarget) return [];
  if (result === 'exists') return mode === 'noreplace' && target !== undefined ? [names] : [];
  if (mode === 'noreplace' && target !== undefined) return [];
  const after =
    mode === 'exchange'
      ? withName(withName(names, from, target), to, moved)
      : withName(withName(names, from, undefined), to, moved);
  if (moved !== target) return [after];
  // rename(2): two names of one node stay as they are. Of unknown nodes nobody knows whether they are one.
  return moved === UNKNOWN_NODE ? [after, names] : [names];
}

/** With the nodes that nobody was told the making of under one name. */
export function withUnknownNodes(history: readonly Operation<NameCall>[]): Operation<NameCall>[] {
  const known = new Set<number | undefined>();
  for (const { call } of history) if (call.kind === 'create') known.add(call.node);
  const nameOf = (node: number) => (known.has(node) ? node : UNKNOWN_NODE);
  return history.map((operation) => {
    const { call } = operation;
    if (call.kind === 'list') {
      const entries = call.entries.map(([name, node]) => [name, nameOf(node)] as const);
      return { ...operation, call: { ...call, entries } };
    }
    if ((call.kind === 'unlink' || call.kind === 'lookup') && typeof call.node === 'number') {
      return { ...operation, call: { ...call, node: nameOf(call.node) } };
    }
    return operation;
  });
}
