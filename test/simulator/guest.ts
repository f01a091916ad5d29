/**
 * What a mount does with files of others: it keeps them open, keeps their pages and attributes, and looks
 * again. Where the master promises to tell of changes, what is seen may not be older than the moment of
 * looking, however long ago the file was opened.
 */
import type { GfsClient } from '../../client/index.js';
import type { OpenFile } from '../../client/open-file.js';
import { toGfsError } from '../../protocol/errors.js';
import { LookupPath, NoteAccess } from '../../protocol/messages/index.js';
import type { Actor } from './actor.js';
import { type AppendFile, type TrackedFile, Violation } from './ledger.js';
import { checkFile, readWhole } from './reading.js';

const MAX_HELD = 4;
const FILE_TYPE = 0o100000;
const PERMISSIONS = 0o777;

/** File data that the kernel keeps over a reopen, where the library says that nobody else has changed it. */
export class Pages {
  readonly #kept = new Map<number, Buffer>();
  readonly #generations = new Map<number, number>();
  /** Written here, so that the pages change with them: this keeps none of those. */
  readonly #edited = new Set<number>();

  constructor(client: GfsClient) {
    client.metadata.listen({
      onBroken: ({ data, cut }) => {
        for (const id of [...data, ...cut]) this.drop(id);
        return undefined;
      },
      // The next open asks for the data version.
      onLost: () => undefined,
    });
  }

  /** Between these it is written or cut through this mount. */
  beginEdit(id: number): void {
    this.drop(id);
    this.#edited.add(id);
  }

  endEdit(id: number): void {
    this.drop(id);
    this.#edited.delete(id);
  }

  drop(id: number): void {
    this.#generations.set(id, this.#generationOf(id) + 1);
    this.#kept.delete(id);
  }

  get(id: number): Buffer | undefined {
    return this.#kept.get(id);
  }

  /** To be called before reading. @returns takes what was read, unless it was dropped meanwhile */
  reading(id: number): (bytes: Buffer) => void {
    const generation = this.#generationOf(id);
    return (bytes) => {
      if (this.#generationOf(id) === generation && !this.#edited.has(id)) this.#kept.set(id, bytes);
    };
  }

  #generationOf(id: number): number {
    return this.#generations.get(id) ?? 0;
  }
}

export class Guest {
  readonly #actor: Actor;
  readonly #held = new Map<TrackedFile, OpenFile>();
  readonly #heldAppended = new Map<AppendFile, OpenFile>();

  constructor(actor: Actor) {
    this.#actor = actor;
  }

  /** Looks at a file of another client, in one way or another. */
  async look(): Promise<void> {
    const { random, client, context } = this.#actor;
    if (this.#held.size > 0 && random.chance(0.5)) return this.#readHeld(random.pick([...this.#held]));
    const file = this.pick();
    if (file === undefined) return;
    const ways: (() => Promise<void>)[] = [
      () => this.#readAnew(file),
      () => this.#stat(file),
      () => this.#changeMode(file),
    ];
    if (client.master.caches) {
      const reopen = async () => {
        if (random.chance(0.5)) await this.#list(file);
        await this.#reopen(file, context.pages as Pages);
      };
      ways.push(
        reopen,
        reopen,
        () => this.#hold(file),
        () => this.#hold(file),
      );
    }
    await random.pick(ways)();
    if (random.chance(0.2)) await this.#noteAccess(file);
  }

  pick(): TrackedFile | undefined {
    const { ledger, name } = this.#actor.context;
    const candidates = ledger.files.filter((file) => file.client !== name && !file.gone);
    return candidates.length === 0 ? undefined : this.#actor.random.pick(candidates);
  }

  /** One at a time in this client, so that each opens it anew. */
  async #readAnew(file: TrackedFile): Promise<void> {
    const { reading, client } = this.#actor.context;
    if (reading.has(file.id) || (!client.master.caches && client.openFile(file.id) !== undefined)) return;
    reading.add(file.id);
    try {
      await checkFile(this.#actor.context, file, this.#actor.attempt);
    } finally {
      reading.delete(file.id);
    }
  }

  async #hold(tracked: TrackedFile): Promise<void> {
    if (this.#held.has(tracked)) return;
    const [oldest] = this.#held.keys();
    if (this.#held.size >= MAX_HELD && oldest !== undefined) await this.#letGo(oldest);
    const file = await this.#open(tracked);
    if (file === undefined) return;
    this.#held.set(tracked, file);
    await this.#readHeld([tracked, file]);
  }

  async #letGo(tracked: TrackedFile): Promise<void> {
    const file = this.#held.get(tracked);
    this.#held.delete(tracked);
    if (file !== undefined) await this.#actor.client.close(file);
  }

  async #open(tracked: TrackedFile): Promise<OpenFile | undefined> {
    const { client, attempt } = this.#actor;
    const opened = await attempt(`open ${tracked.path}, node ${tracked.id}`, () =>
      unlessGone(tracked, () => client.open(tracked.id, {})),
    );
    return opened?.value;
  }

  async #readHeld([tracked, file]: readonly [TrackedFile, OpenFile]): Promise<void> {
    const what = `read ${tracked.path}, node ${tracked.id}, held open`;
    const isThere = await this.#check(what, tracked, () => readWhole(file));
    if (!isThere) await this.#letGo(tracked);
  }

  async #reopen(tracked: TrackedFile, pages: Pages): Promise<void> {
    const { client } = this.#actor;
    const what = `read ${tracked.path}, node ${tracked.id}, again`;
    await this.#check(what, tracked, async () => {
      const { file, isUnchanged } = await client.openCached(tracked.id, {});
      try {
        if (!isUnchanged) pages.drop(tracked.id);
        const kept = pages.get(tracked.id);
        if (kept !== undefined) return kept;
        const keep = pages.reading(tracked.id);
        const bytes = await readWhole(file);
        keep(bytes);
        return bytes;
      } finally {
        await client.close(file);
      }
    });
  }

  /** As `cat *` does before it opens one file after another: from then on places are asked for many at once. */
  async #list({ path }: TrackedFile): Promise<void> {
    const { client, attempt } = this.#actor;
    const directory = path.slice(0, path.lastIndexOf('/')) || '/';
    await attempt(`list ${directory}`, async () => {
      try {
        const { attributes } = await client.master.query(LookupPath, { path: directory });
        await client.metadata.directory(attributes.id, 0, {});
      } catch (error) {
        // It may have another name by now, or none.
        if (toGfsError(error).reaction !== 'never') throw error;
      }
    });
  }

  /** @returns whether it could be read; @throws Violation when what was read cannot be there */
  async #check(what: string, tracked: TrackedFile, read: () => Promise<Buffer>): Promise<boolean> {
    const watch = tracked.model.watch();
    const sealed = tracked.seal?.epoch;
    try {
      const seen = await this.#actor.attempt(what, () => unlessGone(tracked, read));
      if (seen?.value === undefined || tracked.gone) return false;
      const problem = tracked.model.check(watch, seen.value) ?? tracked.seal?.check(sealed, seen.value);
      if (problem !== undefined) throw new Violation(`${this.#actor.name}: ${what}: ${problem}`);
      return true;
    } finally {
      tracked.model.forget(watch);
    }
  }

  /** Length and mode are those of now. */
  async #stat(tracked: TrackedFile): Promise<void> {
    const { client, attempt, wrong } = this.#actor;
    const what = `stat ${tracked.path}, node ${tracked.id}`;
    const watch = tracked.model.watch();
    const mayBe = tracked.mode.watch();
    const stat = () => unlessGone(tracked, () => client.metadata.attributes(tracked.id, {}));
    const told = (await attempt(what, stat))?.value;
    if (told === undefined || tracked.gone) return tracked.model.forget(watch);
    const { size, mode } = client.withLocalChanges(told);
    wrong(what, tracked.model.checkSize(watch, size));
    if (!mayBe(mode & PERMISSIONS)) wrong(what, `its mode is ${mode.toString(8)}`);
  }

  async #changeMode(tracked: TrackedFile): Promise<void> {
    if (tracked.isChangingMode || tracked.seal !== undefined) return;
    const { client, attempt } = this.#actor;
    const mode = this.#actor.ledger.nextMode();
    tracked.isChangingMode = true;
    const done = tracked.mode.begin(mode & PERMISSIONS);
    const change = () =>
      unlessGone(tracked, () => client.setAttributes(tracked.id, { mode: FILE_TYPE | mode }, {}));
    const changed = await attempt(`chmod ${mode.toString(8)} ${tracked.path}`, change);
    if (changed !== undefined) done();
    tracked.isChangingMode = false;
  }

  /** As a mount does for what was read, a moment later. */
  async #noteAccess({ id, path }: TrackedFile): Promise<void> {
    const { client, attempt, context } = this.#actor;
    const { sec, nsec } = context.process.environment.clock.wallTime();
    await attempt(`note that ${path} was read`, () =>
      client.master.mutate(NoteAccess, { items: [{ id, sec, nsec }] }),
    );
  }

  /** Reads a file that all append to, held open from one time to the next. */
  async readAppended(target: AppendFile): Promise<void> {
    const { client, attempt, random } = this.#actor;
    let file = this.#heldAppended.get(target);
    file ??= await attempt(`open ${target.path}`, () => client.open(target.id, {}));
    if (file === undefined) return;
    this.#heldAppended.set(target, file);
    const expected = target.model.expected();
    const what = `read ${target.path}, held open`;
    const seen = await attempt(what, () => readWhole(file));
    const problem = seen === undefined ? undefined : target.model.check(expected, seen);
    if (problem !== undefined) throw new Violation(`${this.#actor.name}: ${what}: ${problem}`);
    if (random.chance(0.7)) return;
    this.#heldAppended.delete(target);
    await client.close(file);
  }
}

/** Undefined where the file is not there any more, as it was to be expected. */
async function unlessGone<T>(
  tracked: TrackedFile,
  run: () => Promise<T>,
): Promise<{ readonly value: T | undefined }> {
  try {
    return { value: await run() };
  } catch (thrown) {
    if (tracked.gone && toGfsError(thrown).code === 'STALE_NODE') return { value: undefined };
    throw thrown;
  }
}
