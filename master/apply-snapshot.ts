/** A snapshot on logged state: metadata is duplicated, chunks get one reference more (paper §3.4). */
import type { Attributes } from '../protocol/messages/index.js';
import type { LogEventOf } from '../protocol/records.js';
import { inheritGoal } from './apply-goals.js';
import { addNode, directoryOf, giveName, nodeOf, setModified } from './apply-namespace.js';
import { addReference } from './apply-sharing.js';
import type { Directory } from './directory.js';
import { inheritRetention } from './retention.js';
import type { LoggedState, Node, Timestamp } from './state.js';

export function applySnapshotTaken(
  state: LoggedState,
  event: LogEventOf<'snapshotTaken'>,
  time: Timestamp,
): { readonly attributes: Attributes } {
  const parent = directoryOf(state, event.parent);
  const copier = new Copier(state, event.firstId, time);
  const copy = copier.copyTree(nodeOf(state, event.source), parent, event.name);
  setModified(parent, time);
  return { attributes: copy.attributes() };
}

/** The nodes of a tree, each once, directories before what is in them, entries in the order of their cookies. */
export function* walk(state: LoggedState, root: Node): IterableIterator<Node> {
  const seen = new Set<number>();
  const open: Node[] = [root];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (node.nlink > 1 && !node.isDirectory) {
      if (seen.has(node.id)) continue;
      seen.add(node.id);
    }
    yield node;
    if (node.entries !== undefined) for (const entry of node.entries) open.push(nodeOf(state, entry.node));
  }
}

class Copier {
  readonly #state: LoggedState;
  readonly #time: Timestamp;
  /** Hard links within the tree stay links: source → copy. */
  readonly #linked = new Map<number, Node>();
  #nextId: number;

  constructor(state: LoggedState, firstId: number, time: Timestamp) {
    this.#state = state;
    this.#nextId = firstId;
    this.#time = time;
  }

  copyTree(source: Node, parent: Node & { readonly entries: Directory }, name: string): Node {
    const top = this.#copyName(source, parent, name);
    const open: [Node, Node][] = [[source, top]];
    for (let pair = open.pop(); pair !== undefined; pair = open.pop()) {
      const [from, to] = pair;
      if (from.entries !== undefined) {
        const directory = directoryOf(this.#state, to.id);
        for (const entry of from.entries) {
          const child = nodeOf(this.#state, entry.node);
          const copy = this.#copyName(child, directory, entry.name);
          if (child.isDirectory) open.push([child, copy]);
        }
      }
      // What the copies' names did to the directory's times is not what the source's say.
      copyTimes(from, to);
    }
    copyTimes(source, top);
    return top;
  }

  #copyName(source: Node, parent: Node & { readonly entries: Directory }, name: string): Node {
    const earlier = source.isDirectory ? undefined : this.#linked.get(source.id);
    if (earlier !== undefined) {
      giveName(this.#state, parent, name, earlier);
      earlier.nlink++;
      return earlier;
    }
    const copy = this.#copyNode(source, parent, name);
    if (!source.isDirectory && source.nlink > 1) this.#linked.set(source.id, copy);
    return copy;
  }

  #copyNode(source: Node, parent: Node & { readonly entries: Directory }, name: string): Node {
    const { mode, uid, gid, rdev } = source;
    const fields = { id: this.#nextId++, mode, uid, gid, rdev, time: this.#time };
    const copy = addNode(this.#state, fields, parent, name);
    copyTimes(source, copy);
    copy.size = source.size;
    copy.target = source.target;
    if (source.xattrs !== undefined) copy.xattrs = new Map(source.xattrs);
    inheritRetention(this.#state, source.id, copy);
    inheritGoal(this.#state, source.id, copy);
    if (source.chunks !== undefined) {
      copy.chunkList.copyFrom(source.chunks);
      for (const handle of source.chunks.handles()) addReference(this.#state, handle);
    }
    return copy;
  }
}

function copyTimes(from: Node, to: Node): void {
  to.setAtime(from.atimeSec, from.atimeNsec);
  to.setMtime(from.mtimeSec, from.mtimeNsec);
}
