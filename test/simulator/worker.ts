/** One user of the file system: makes, writes, reads, renames and removes files of its own, and reads others'. */
import type { GfsClient } from '../../client/index.js';
import type { OpenFile } from '../../client/open-file.js';
import { toGfsError } from '../../protocol/errors.js';
import { Create, Rename, ROOT_ID, Snapshot, Unlink } from '../../protocol/messages/index.js';
import type { FakeProcess, FakeRandom } from '../fakes/index.js';
import { FileModel } from './file-model.js';
import {
  type AppendFile,
  type Ledger,
  type TrackedDirectory,
  type TrackedFile,
  Violation,
} from './ledger.js';

const DIRECTORY_MODE = 0o040755;
const FILE_MODE = 0o100644;
const MAX_FILES = 8;
const MAX_FILE_BYTES = 700_000;
/** Failures that the contracts allow while something is broken. Reactions other than `never` end in these. */
const EXCUSABLE = new Set(['DEADLINE_EXCEEDED', 'UNKNOWN_OUTCOME', 'NO_SPACE']);

/** What the workers of one client share. */
export interface ClientContext {
  readonly name: string;
  readonly client: GfsClient;
  readonly process: FakeProcess;
  readonly ledger: Ledger;
  /** Files of others that are being read here: one reader at a time, so that each opens it anew. */
  readonly reading: Set<number>;
}

export class Worker {
  readonly #context: ClientContext;
  readonly #random: FakeRandom;
  readonly #name: string;
  #directory!: TrackedDirectory;
  #nextName = 1;

  constructor(context: ClientContext, name: string, random: FakeRandom) {
    this.#context = context;
    this.#name = name;
    this.#random = random;
  }

  async run(): Promise<void> {
    await this.#makeDirectory();
    const steps: readonly [weight: number, step: () => Promise<void>][] = [
      [10, () => this.#create()],
      [40, () => this.#edit()],
      [20, () => this.#readOther()],
      [12, () => this.#append()],
      [6, () => this.#readAppended()],
      [5, () => this.#rename()],
      [4, () => this.#unlink()],
      [5, () => this.#snapshot()],
    ];
    const deck = steps.flatMap(([weight, step]) => new Array<() => Promise<void>>(weight).fill(step));
    while (!this.#context.ledger.stopping) {
      await this.#pause(this.#random.between(0, 40));
      await this.#random.pick(deck)();
    }
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.#context.process.environment.timers.after(delayMs, resolve));
  }

  /** Does something that may fail while things are broken. @returns undefined when it did */
  async #attempt<T>(what: string, run: () => Promise<T>): Promise<T | undefined> {
    const { ledger, process } = this.#context;
    process.environment.logger.debug({}, `${this.#name}: ${what}`);
    try {
      const result = await run();
      ledger.succeeded++;
      return result;
    } catch (thrown) {
      const error = toGfsError(thrown);
      const excused = EXCUSABLE.has(error.code) || error.reaction !== 'never';
      process.environment.logger.debug({ code: error.code }, `${this.#name}: ${what} failed`);
      if (ledger.calm || !excused) {
        throw new Violation(`${this.#name}: ${what}: ${error.code} ${error.message}`, { cause: thrown });
      }
      ledger.failed++;
      return undefined;
    }
  }

  #wrong(what: string, problem: string | undefined): void {
    if (problem !== undefined) throw new Violation(`${this.#name}: ${what}: ${problem}`);
  }

  // Names.

  async #makeDirectory(): Promise<void> {
    for (let tries = 1; ; tries++) {
      const name = `${this.#name}-${tries}`;
      const made = await this.#attempt(`mkdir ${name}`, () => this.#make(ROOT_ID, name, DIRECTORY_MODE));
      if (made === undefined) continue;
      this.#directory = { id: made, path: `/${name}`, names: new Map(), uncertain: new Set() };
      this.#context.ledger.directories.push(this.#directory);
      return;
    }
  }

  async #make(parent: number, name: string, mode: number): Promise<number> {
    const { client } = this.#context;
    const body = { parent, name, mode, rdev: 0, exclusive: true };
    const { attributes, created } = await client.master.mutate(Create, body);
    if (!created) throw new Violation(`${this.#name}: exclusive create of ${name} found it made`);
    return attributes.id;
  }

  /** Changes names; until its outcome is known they are uncertain. @returns whether it succeeded */
  async #change<T>(what: string, names: readonly string[], run: () => Promise<T>): Promise<T | undefined> {
    for (const name of names) this.#directory.uncertain.add(name);
    const result = await this.#attempt(`${what} ${names.join(' ')} in ${this.#directory.path}`, run);
    if (result !== undefined) for (const name of names) this.#directory.uncertain.delete(name);
    else for (const name of names) this.#directory.names.delete(name);
    return result;
  }

  #track(name: string, id: number, model: FileModel): void {
    const path = `${this.#directory.path}/${name}`;
    const file = { id, path, client: this.#context.name, model, frozen: false, gone: false };
    this.#directory.names.set(name, file);
    this.#context.ledger.files.push(file);
  }

  #pickName(): string | undefined {
    const names = [...this.#directory.names.keys()];
    return names.length === 0 ? undefined : this.#random.pick(names);
  }

  #newName(): string {
    return `f${this.#nextName++}`;
  }

  async #create(): Promise<void> {
    if (this.#directory.names.size >= MAX_FILES) return this.#unlink();
    const name = this.#newName();
    const id = await this.#change('create', [name], () => this.#make(this.#directory.id, name, FILE_MODE));
    if (id !== undefined) this.#track(name, id, new FileModel());
  }

  async #unlink(): Promise<void> {
    const name = this.#pickName();
    if (name === undefined) return;
    (this.#directory.names.get(name) as TrackedFile).gone = true;
    const body = { parent: this.#directory.id, name, directory: false };
    const done = await this.#change('unlink', [name], () => this.#context.client.master.mutate(Unlink, body));
    if (done !== undefined) this.#directory.names.delete(name);
  }

  async #rename(): Promise<void> {
    const from = this.#pickName();
    const target = this.#random.chance(0.5) ? this.#pickName() : undefined;
    if (from === undefined || from === target) return;
    const to = target ?? this.#newName();
    const { names, id: parent } = this.#directory;
    const [moved, replaced] = [names.get(from) as TrackedFile, names.get(to)];
    const mode = replaced === undefined ? 'noreplace' : this.#random.pick(['replace', 'exchange'] as const);
    if (mode === 'replace' && replaced !== undefined) replaced.gone = true;
    const body = { parent, name: from, newParent: parent, newName: to, mode };
    const done = await this.#change(`rename (${mode})`, [from, to], () => {
      return this.#context.client.master.mutate(Rename, body);
    });
    if (done === undefined) return;
    names.delete(from);
    names.set(to, moved);
    if (mode === 'exchange' && replaced !== undefined) names.set(from, replaced);
  }

  async #snapshot(): Promise<void> {
    const from = this.#pickName();
    if (from === undefined || this.#directory.names.size >= MAX_FILES) return;
    const source = this.#directory.names.get(from) as TrackedFile;
    if (source.frozen) return;
    const name = this.#newName();
    const body = { id: source.id, parent: this.#directory.id, name };
    const reply = await this.#change(`snapshot ${from} as`, [name], () => {
      return this.#context.client.master.mutate(Snapshot, body);
    });
    if (reply !== undefined) this.#track(name, reply.attributes.id, source.model.clone());
  }

  // Contents.

  async #edit(): Promise<void> {
    const name = this.#pickName();
    const tracked = name === undefined ? undefined : (this.#directory.names.get(name) as TrackedFile);
    if (tracked === undefined || tracked.frozen) return;
    const { client } = this.#context;
    const file = await this.#attempt(`open ${tracked.path}`, () => client.open(tracked.id, {}));
    if (file === undefined) return;
    if (file.size !== tracked.model.size) {
      this.#wrong(`open ${tracked.path}`, `${file.size} bytes long, ${tracked.model.size} were written`);
    }
    const actions = [
      () => this.#write(tracked, file),
      () => this.#write(tracked, file),
      () => this.#write(tracked, file),
      () => this.#flush(tracked, file),
      () => this.#sync(tracked, file),
      () => this.#readOwn(tracked, file),
      () => this.#truncate(tracked, file),
    ];
    for (let count = 1 + this.#random.below(6); count > 0 && !tracked.frozen; count--) {
      await this.#random.pick(actions)();
      if (this.#random.chance(0.2)) await this.#pause(this.#random.between(0, 300));
    }
    if (!tracked.frozen) await this.#flush(tracked, file);
    await client.close(file);
    if (!tracked.model.isSizeCertain) tracked.frozen = true;
  }

  #bytes(): Buffer {
    const count = this.#random.chance(0.7) ? 1 + this.#random.below(6_000) : 1 + this.#random.below(180_000);
    const bytes = Buffer.alloc(count);
    const [start, step] = [this.#random.below(256), 1 + 2 * this.#random.below(100)];
    for (let at = 0; at < count; at++) bytes[at] = (start + at * step + (at >> 8)) & 0xff;
    return bytes;
  }

  async #write(tracked: TrackedFile, file: OpenFile): Promise<void> {
    const bytes = this.#bytes();
    const { size } = tracked.model;
    const offset = this.#random.chance(0.4) ? size : this.#random.below(size + 20_000);
    if (offset + bytes.byteLength > MAX_FILE_BYTES) return;
    tracked.model.write(offset, Buffer.from(bytes));
    const range = `${offset} to ${offset + bytes.byteLength}`;
    const done = await this.#attempt(`write ${tracked.path} ${range}`, async () => {
      const written = file.write(offset, bytes);
      // The library took a copy: the caller may use its buffer again.
      bytes.fill(0xee);
      await written;
      return true;
    });
    if (done === undefined) tracked.model.flushFailed();
  }

  async #flush(tracked: TrackedFile, file: OpenFile): Promise<void> {
    const done = await this.#attempt(`flush ${tracked.path}`, () => file.flush({}).then(() => true));
    if (done === undefined) tracked.model.flushFailed();
    else tracked.model.flushed();
  }

  async #sync(tracked: TrackedFile, file: OpenFile): Promise<void> {
    const done = await this.#attempt(`sync ${tracked.path}`, () => file.sync({}).then(() => true));
    if (done === undefined) {
      tracked.model.syncFailed();
      return;
    }
    tracked.model.flushed();
    tracked.model.synced();
  }

  async #readOwn(tracked: TrackedFile, file: OpenFile): Promise<void> {
    const what = `read own ${tracked.path}`;
    const seen = await this.#attempt(what, () => readWhole(file));
    if (seen === undefined) tracked.model.flushFailed();
    else this.#wrong(what, tracked.model.checkOwn(seen, !this.#context.ledger.calm));
  }

  async #truncate(tracked: TrackedFile, file: OpenFile): Promise<void> {
    const size = this.#random.chance(0.2) ? 0 : this.#random.below(tracked.model.size + 30_000);
    if (size > MAX_FILE_BYTES) return;
    tracked.model.truncating(size);
    const done = await this.#attempt(`truncate ${tracked.path} to ${size}`, () => {
      return this.#context.client.setAttributes(file.id, { size }, {});
    });
    if (done === undefined) {
      // It may come to pass later, and what it cuts with it.
      tracked.model.flushFailed();
      tracked.frozen = true;
      return;
    }
    tracked.model.flushed();
    tracked.model.truncated(size);
  }

  async #readOther(): Promise<void> {
    const { ledger, name, reading } = this.#context;
    const candidates = ledger.files.filter(
      (file) => file.client !== name && !file.gone && !reading.has(file.id),
    );
    if (candidates.length === 0) return;
    const tracked = this.#random.pick(candidates);
    reading.add(tracked.id);
    try {
      await checkFile(this.#context, tracked, (what, run) => this.#attempt(what, run));
    } finally {
      reading.delete(tracked.id);
    }
  }

  // Appends.

  async #append(): Promise<void> {
    const { client, ledger, reading } = this.#context;
    const target = this.#random.pick(ledger.appendFiles);
    if (reading.has(target.id)) return;
    const file = await this.#attempt(`open ${target.path}`, () => client.open(target.id, {}));
    if (file === undefined) return;
    const mine = new Set<number>();
    for (let count = 1 + this.#random.below(4); count > 0; count--) await this.#appendOne(target, file, mine);
    if (this.#random.chance(0.5)) {
      const done = await this.#attempt(`sync ${target.path}`, () => file.sync({}).then(() => true));
      if (done !== undefined) target.model.synced(mine);
    }
    await client.close(file);
  }

  async #appendOne(target: AppendFile, file: OpenFile, mine: Set<number>): Promise<void> {
    const { id, record } = target.model.make(this.#random, this.#random.chance(0.9) ? 600 : 20_000);
    const { crashes } = this.#context.ledger;
    const offset = await this.#attempt(`append record ${id} to ${target.path}`, async () => {
      if (target.mode === 'record') return file.appendRecord(record, {});
      const at = await file.append(record);
      await file.flush({});
      return at;
    });
    // Where a host crashed meanwhile it may have been written before, and be lost with that.
    if (offset === undefined || crashes !== this.#context.ledger.crashes) return;
    target.model.acknowledged(id, offset, record);
    mine.add(id);
  }

  async #readAppended(): Promise<void> {
    const { client, ledger, reading } = this.#context;
    const target = this.#random.pick(ledger.appendFiles);
    if (reading.has(target.id) || client.openFile(target.id) !== undefined) return;
    reading.add(target.id);
    try {
      await checkAppends(this.#context, target, (what, run) => this.#attempt(what, run));
    } finally {
      reading.delete(target.id);
    }
  }
}

export async function readWhole(file: OpenFile): Promise<Buffer> {
  const { buffers, release } = await file.read(0, file.size, {});
  const bytes = Buffer.concat(buffers);
  release();
  return bytes;
}

type Attempt = <T>(what: string, run: () => Promise<T>) => Promise<T | undefined>;
type Reading = Pick<ClientContext, 'client'>;

async function openAndRead({ client }: Reading, id: number): Promise<Buffer> {
  const file = await client.open(id, {});
  try {
    return await readWhole(file);
  } finally {
    await client.close(file);
  }
}

/** Reads a file that another client writes, and compares. @throws Violation */
export async function checkFile(context: Reading, tracked: TrackedFile, attempt: Attempt): Promise<void> {
  const watch = tracked.model.watch();
  try {
    const what = `read ${tracked.path}, node ${tracked.id}`;
    const seen = await attempt(what, async () => {
      try {
        return await openAndRead(context, tracked.id);
      } catch (thrown) {
        if (tracked.gone && toGfsError(thrown).code === 'STALE_NODE') return undefined;
        throw thrown;
      }
    });
    if (seen === undefined || tracked.gone) return;
    const problem = tracked.model.check(watch, seen);
    if (problem !== undefined) throw new Violation(`${what}: ${problem}`);
  } finally {
    tracked.model.forget(watch);
  }
}

/** Reads a file of appended records, and compares. @throws Violation */
export async function checkAppends(context: Reading, target: AppendFile, attempt: Attempt): Promise<void> {
  const expected = target.model.expected();
  const seen = await attempt(`read ${target.path}`, () => openAndRead(context, target.id));
  const problem = seen === undefined ? undefined : target.model.check(expected, seen);
  if (problem !== undefined) throw new Violation(`read ${target.path}: ${problem}`);
}
