/** Walks a tree a bounded piece at a time, and counts what is in it and which chunks are not well. */
import { GfsError } from '../protocol/errors.js';
import { MAX_PROBLEMS_PAGE } from '../protocol/limits.js';
import {
  type CheckTree,
  type ChunkProblem,
  MAX_PROBLEM_PATH_BYTES,
  ROOT_ID,
  type TreeCursor,
  type TreePart,
} from '../protocol/messages/index.js';
import type { ValueOf } from '../protocol/schema.js';
import { DeletedCursors } from './deleted-cursors.js';
import type { Health } from './health.js';
import type { Replicas } from './replicas.js';
import { findNode } from './resolve.js';
import type { ChunkState, LoggedState, Node } from './state.js';

/** What one piece looks at: nodes and chunks together. A few milliseconds. */
const MAX_LOOKED_AT = 1024;
const ENTRIES_AT_ONCE = 64;

type Counts = { -readonly [K in keyof TreePart]: TreePart[K] };

export class TreeChecker {
  readonly #state: LoggedState;
  readonly #replicas: Replicas;
  readonly #health: Health;
  readonly #cursors: DeletedCursors;

  constructor(state: LoggedState, replicas: Replicas, health: Health) {
    this.#state = state;
    this.#replicas = replicas;
    this.#health = health;
    this.#cursors = new DeletedCursors(state);
  }

  /** @throws STALE_NODE, MALFORMED */
  check({ root, cursor, deleted }: ValueOf<typeof CheckTree.request>): TreePart {
    const top = findNode(this.#state, root);
    const piece = new Piece(this.#state, this.#replicas, this.#health, root);
    if (cursor?.deleted !== undefined) return this.#checkDeleted(piece, cursor.deleted, cursor.chunks);
    if ((cursor?.stack.length ?? 0) % 2 !== 0) throw new GfsError('MALFORMED', 'a cursor');
    const next = top.isDirectory
      ? this.#walk(piece, cursor ?? begin(piece, top))
      : piece.file(top, this.#pathOf(top), false, cursor?.chunks ?? 0);
    if (typeof next === 'number') piece.counts.cursor = { stack: [], chunks: next };
    else if (next !== undefined) piece.counts.cursor = next;
    else if (deleted) piece.counts.cursor = { stack: [], chunks: 0, deleted: 0 };
    return piece.counts;
  }

  /** @returns where to go on; undefined at the end of the tree */
  #walk(piece: Piece, { stack: given, chunks }: TreeCursor): TreeCursor | undefined {
    const stack = [...given];
    let chunksDone = chunks;
    while (stack.length > 0) {
      if (piece.isFull) return { stack, chunks: chunksDone };
      const [id, cookie] = stack.slice(-2) as [number, number];
      const directory = this.#state.nodes.get(id);
      const page = directory?.entries?.page(cookie, ENTRIES_AT_ONCE) ?? [];
      if (directory === undefined || page.length === 0) {
        stack.length -= 2;
        continue;
      }
      const path = this.#state.pathOf(directory) ?? '';
      for (const entry of page) {
        const node = findNode(this.#state, entry.node);
        const unfinished = piece.entry(node, directory, entry.name, `${path}/${entry.name}`, chunksDone);
        if (unfinished !== undefined) return { stack, chunks: unfinished };
        chunksDone = 0;
        stack[stack.length - 1] = entry.cookie;
        if (node.isDirectory) {
          stack.push(node.id, 0);
          break;
        }
        if (piece.isFull) break;
      }
    }
    return undefined;
  }

  #checkDeleted(piece: Piece, after: number, chunks: number): TreePart {
    const cursor = this.#cursors.after(after);
    let last = after;
    let chunksDone = chunks;
    while (!piece.isFull) {
      const { value, done } = cursor.next();
      if (done) return piece.counts;
      const node = this.#state.nodes.get(value.id);
      if (node?.isRegular) {
        const unfinished = piece.file(node, value.path, true, chunksDone);
        if (unfinished !== undefined) {
          piece.counts.cursor = { stack: [], chunks: unfinished, deleted: last };
          return piece.counts;
        }
      }
      chunksDone = 0;
      last = value.id;
    }
    this.#cursors.remember(last, cursor);
    piece.counts.cursor = { stack: [], chunks: 0, deleted: last };
    return piece.counts;
  }

  #pathOf(node: Node): string {
    const parent = this.#state.nodes.get(node.parent);
    return parent === undefined
      ? (this.#state.deleted.get(node.id)?.path ?? '')
      : `${this.#state.pathOf(parent) ?? ''}/${node.name}`;
  }
}

function begin(piece: Piece, top: Node): TreeCursor {
  piece.counts.directories++;
  return { stack: [top.id, 0], chunks: 0 };
}

/** One answer in the making. */
class Piece {
  readonly counts: Counts = {
    ...{ files: 0, directories: 0, others: 0, deletedFiles: 0, bytes: 0, chunks: 0, replicas: 0 },
    ...{ goals: [], healthy: 0, belowGoal: 0, lost: 0, unknown: 0, problems: [] },
  };
  readonly #state: LoggedState;
  readonly #replicas: Replicas;
  readonly #health: Health;
  readonly #root: number;
  #left = MAX_LOOKED_AT;
  #pathBytes = 0;

  constructor(state: LoggedState, replicas: Replicas, health: Health, root: number) {
    this.#state = state;
    this.#replicas = replicas;
    this.#health = health;
    this.#root = root;
  }

  get isFull(): boolean {
    const { problems } = this.counts;
    return (
      this.#left <= 0 || problems.length >= MAX_PROBLEMS_PAGE || this.#pathBytes >= MAX_PROBLEM_PATH_BYTES
    );
  }

  /** @returns as {@link file} */
  entry(node: Node, parent: Node, name: string, path: string, chunksDone: number): number | undefined {
    this.#left--;
    if (node.isDirectory) this.counts.directories++;
    else if (!node.isRegular) this.counts.others++;
    else if (this.#isCountedHere(node, parent, name)) return this.file(node, path, false, chunksDone);
    return undefined;
  }

  /** A file with several names counts once, at its first name; at each, where that one is outside the tree. */
  #isCountedHere(node: Node, parent: Node, name: string): boolean {
    if (node.nlink <= 1 || (node.parent === parent.id && node.name === name)) return true;
    let above: Node | undefined = this.#state.nodes.get(node.parent);
    while (above !== undefined && above.id !== this.#root && above.id !== ROOT_ID) {
      above = this.#state.nodes.get(above.parent);
    }
    return above?.id !== this.#root;
  }

  /** @returns how many of its chunks are done, when not all; undefined when it is done */
  file(node: Node, path: string, isDeleted: boolean, chunksDone: number): number | undefined {
    const entries = node.chunks?.entries() ?? [];
    let at = chunksDone;
    let goal = 0;
    let counted = 0;
    for (; at < entries.length && !this.isFull; at++) {
      const [index, handle] = entries[at] as [number, number];
      const chunk = this.#state.chunks.get(handle);
      if (chunk === undefined) continue;
      counted++;
      goal = chunk.goal;
      this.#chunk(chunk, { path, deleted: isDeleted, id: node.id, index });
    }
    const isDone = at >= entries.length;
    this.#countGoal(goal, isDone ? 1 : 0, counted);
    if (!isDone) return at;
    if (isDeleted) this.counts.deletedFiles++;
    else this.counts.files++;
    this.counts.bytes += node.size;
    return undefined;
  }

  #countGoal(goal: number, files: number, chunks: number): void {
    const known = this.counts.goals.find((each) => each.goal === goal);
    if (known === undefined) {
      this.counts.goals.push({ goal, files, chunks });
    } else {
      known.files += files;
      known.chunks += chunks;
    }
  }

  #chunk(chunk: ChunkState, where: Pick<ChunkProblem, 'path' | 'deleted' | 'id' | 'index'>): void {
    const { counts } = this;
    this.#left--;
    counts.chunks++;
    const health = this.#health.of(chunk);
    counts[health]++;
    const current = this.#replicas.readable(chunk).length;
    counts.replicas += current;
    if (health === 'healthy') return;
    let suspect = 0;
    let stale = 0;
    let damaged = 0;
    for (const replica of this.#replicas.live(chunk.handle)) {
      if (replica.damaged) damaged++;
      else if (this.#replicas.isUseless(replica, chunk)) stale++;
      else if (replica.suspect) suspect++;
    }
    const { handle, version, goal } = chunk;
    this.#pathBytes += where.path.length;
    counts.problems.push({ ...where, handle, version, goal, current, suspect, stale, damaged, health });
  }
}
