/** One user of the file system: makes, writes, reads, renames, links and removes files of its own, and reads others'. */
import type { OpenFile } from '../../client/open-file.js';
import {
  Create,
  GetXattr,
  Link,
  ReadDirectory,
  RemoveXattr,
  Rename,
  ROOT_ID,
  SetXattr,
  Snapshot,
  Unlink,
} from '../../protocol/messages/index.js';
import type { FakeRandom } from '../fakes/index.js';
import { Actor, type ClientContext } from './actor.js';
import { Contents } from './contents.js';
import { FileModel } from './file-model.js';
import { Guest } from './guest.js';
import { release, Seal, type TrackedDirectory, type TrackedFile, take, Violation } from './ledger.js';
import { Register } from './register.js';

const DIRECTORY_MODE = 0o040755;
const FILE_MODE = 0o100644;
const MAX_FILES = 8;
const XATTRS = ['user.one', 'user.two'] as const;

export class Worker {
  readonly #actor: Actor;
  readonly #contents: Contents;
  readonly #guest: Guest;
  #directory!: TrackedDirectory;
  #nextName = 1;

  constructor(context: ClientContext, name: string, random: FakeRandom) {
    this.#actor = new Actor(context, name, random);
    this.#guest = new Guest(this.#actor);
    this.#contents = new Contents(this.#actor, this.#guest);
  }

  async run(): Promise<void> {
    const { random, ledger } = this.#actor;
    const contents = this.#contents;
    this.#directory = await this.#makeOwnDirectory();
    const steps: readonly [weight: number, step: () => Promise<void>][] = [
      [10, () => this.#create()],
      [40, () => this.#edit()],
      [8, () => this.#editOther()],
      [24, () => this.#guest.look()],
      [12, () => contents.append()],
      [6, () => contents.readAppended()],
      [5, () => this.#rename()],
      [3, () => this.#link()],
      [5, () => this.#unlink()],
      [5, () => this.#snapshot()],
      [2, () => this.#snapshotTree()],
      [4, () => this.#changeXattr()],
      [3, () => this.#useSubdirectory()],
    ];
    const deck = steps.flatMap(([weight, step]) => new Array<() => Promise<void>>(weight).fill(step));
    while (!ledger.stopping) {
      await this.#actor.pause(40);
      await random.pick(deck)();
    }
  }

  async #makeOwnDirectory(): Promise<TrackedDirectory> {
    for (let tries = 1; ; tries++) {
      const name = `${this.#actor.name}-${tries}`;
      const make = () => this.#make(ROOT_ID, name, DIRECTORY_MODE);
      const id = await this.#actor.attempt(`mkdir ${name}`, make);
      if (id !== undefined) return this.#trackDirectory(id, `/${name}`);
    }
  }

  #trackDirectory(id: number, path: string): TrackedDirectory {
    const directory = {
      id,
      path,
      names: new Map(),
      directories: new Map(),
      uncertain: new Set<string>(),
      gone: false,
    };
    this.#actor.ledger.directories.push(directory);
    return directory;
  }

  async #make(parent: number, name: string, mode: number): Promise<number> {
    const body = { parent, name, mode, rdev: 0, exclusive: true };
    const { attributes, created } = await this.#actor.client.master.mutate(Create, body);
    if (!created) throw new Violation(`${this.#actor.name}: exclusive create of ${name} found it made`);
    return attributes.id;
  }

  /** Changes names; until its outcome is known they are uncertain. @returns undefined when it has failed */
  async #change<T>(
    what: string,
    names: readonly (readonly [directory: TrackedDirectory, name: string])[],
    run: () => Promise<T>,
  ): Promise<T | undefined> {
    for (const [{ uncertain }, name] of names) uncertain.add(name);
    const told = names.map(([{ path }, name]) => `${path}/${name}`).join(' ');
    const result = await this.#actor.attempt(`${what} ${told}`, run);
    for (const [directory, name] of names) {
      if (result !== undefined) directory.uncertain.delete(name);
      else directory.names.delete(name);
    }
    return result;
  }

  #track(
    directory: TrackedDirectory,
    name: string,
    file: Pick<TrackedFile, 'id' | 'model'> & Partial<TrackedFile>,
  ) {
    const tracked: TrackedFile = {
      path: `${directory.path}/${name}`,
      client: this.#actor.context.name,
      xattrs: new Map(),
      seal: undefined,
      names: 1,
      mode: new Register(FILE_MODE & 0o777),
      isChangingMode: false,
      editor: undefined,
      lastEditor: this.#actor.context.name,
      frozen: false,
      gone: false,
      ...file,
    };
    directory.names.set(name, tracked);
    this.#actor.ledger.files.push(tracked);
    return tracked;
  }

  #pickName(): string | undefined {
    const names = [...this.#directory.names.keys()];
    return names.length === 0 ? undefined : this.#actor.random.pick(names);
  }

  #pickFile(): TrackedFile | undefined {
    const name = this.#pickName();
    return name === undefined ? undefined : this.#directory.names.get(name);
  }

  #newName(): string {
    return `f${this.#nextName++}`;
  }

  /** One name less; without any it is gone. Also where the outcome is not known: it may be. */
  #loseName(file: TrackedFile): void {
    if (--file.names <= 0) file.gone = true;
  }

  async #create(): Promise<void> {
    const directory = this.#directory;
    if (directory.names.size >= MAX_FILES) return this.#unlink();
    const name = this.#newName();
    const make = () => this.#make(directory.id, name, FILE_MODE);
    const id = await this.#change('create', [[directory, name]], make);
    if (id !== undefined) this.#track(directory, name, { id, model: new FileModel() });
  }

  async #edit(): Promise<void> {
    const file = this.#pickFile();
    if (file !== undefined) await this.#contents.edit(file);
  }

  /** What another client made and wrote before is written on here. */
  async #editOther(): Promise<void> {
    const file = this.#guest.pick();
    if (file !== undefined) await this.#contents.edit(file);
  }

  /** Opened before its name goes, now and then: it stays what it is for whoever has it open, and nobody else writes it. */
  async #openSometimes(file: TrackedFile): Promise<OpenFile | undefined> {
    if (file.frozen || file.names > 1 || !this.#actor.random.chance(0.4)) return undefined;
    if (!take(file, this.#actor.context.name)) return undefined;
    const open = await this.#actor.attempt(`open ${file.path}`, () => this.#actor.client.open(file.id, {}));
    if (open === undefined) release(file);
    return open;
  }

  async #useUnlinked(file: TrackedFile, open: OpenFile): Promise<void> {
    await this.#contents.useUnlinked(file, open);
    release(file);
  }

  async #unlink(): Promise<void> {
    const directory = this.#directory;
    const name = this.#pickName();
    if (name === undefined) return;
    const file = directory.names.get(name) as TrackedFile;
    const open = await this.#openSometimes(file);
    this.#loseName(file);
    const body = { parent: directory.id, name, directory: false };
    const unlink = () => this.#actor.client.master.mutate(Unlink, body);
    const done = await this.#change('unlink', [[directory, name]], unlink);
    if (done !== undefined) directory.names.delete(name);
    if (open !== undefined) await this.#useUnlinked(file, open);
  }

  async #link(): Promise<void> {
    const directory = this.#directory;
    const file = this.#pickFile();
    if (file === undefined || directory.names.size >= MAX_FILES) return;
    const name = this.#newName();
    const body = { id: file.id, parent: directory.id, name };
    // Before the answer: if there is none it may have a name more, never one less than is counted.
    file.names++;
    const link = () => this.#actor.client.master.mutate(Link, body);
    const done = await this.#change('link', [[directory, name]], link);
    if (done !== undefined) directory.names.set(name, file);
    else file.names--;
  }

  async #rename(): Promise<void> {
    const { random, client } = this.#actor;
    const directory = this.#directory;
    const from = this.#pickName();
    const target = random.chance(0.5) ? this.#pickName() : undefined;
    if (from === undefined || from === target) return;
    const to = target ?? this.#newName();
    const moved = directory.names.get(from) as TrackedFile;
    const replaced = directory.names.get(to);
    if (moved === replaced) return;
    const mode = replaced === undefined ? 'noreplace' : random.pick(['replace', 'exchange'] as const);
    const isReplaced = mode === 'replace' && replaced !== undefined;
    const open = isReplaced ? await this.#openSometimes(replaced) : undefined;
    if (isReplaced) this.#loseName(replaced);
    const { id: parent } = directory;
    const body = { parent, name: from, newParent: parent, newName: to, mode };
    const done = await this.#change(
      `rename (${mode})`,
      [
        [directory, from],
        [directory, to],
      ],
      () => client.master.mutate(Rename, body),
    );
    if (done !== undefined) {
      directory.names.delete(from);
      directory.names.set(to, moved);
      if (mode === 'exchange' && replaced !== undefined) directory.names.set(from, replaced);
    }
    if (open !== undefined && replaced !== undefined) await this.#useUnlinked(replaced, open);
  }

  /** Makes one, moves files into it, takes them out, removes it; and sees that it goes only when it is empty. */
  async #useSubdirectory(): Promise<void> {
    const parent = this.#directory;
    const [entry] = parent.directories;
    if (entry === undefined) {
      const name = this.#newName();
      const make = () => this.#make(parent.id, name, DIRECTORY_MODE);
      const id = await this.#change('mkdir', [[parent, name]], make);
      if (id !== undefined) parent.directories.set(name, this.#trackDirectory(id, `${parent.path}/${name}`));
      return;
    }
    const [name, directory] = entry;
    const moves = [() => this.#move(parent, directory), () => this.#move(directory, parent)];
    if (this.#actor.random.chance(0.7)) return this.#actor.random.pick(moves)();
    await this.#removeDirectory(parent, name, directory);
  }

  async #move(from: TrackedDirectory, to: TrackedDirectory): Promise<void> {
    const name = [...from.names.keys()][0];
    if (name === undefined || to.uncertain.has(name)) return;
    const file = from.names.get(name) as TrackedFile;
    const body = { parent: from.id, name, newParent: to.id, newName: name, mode: 'noreplace' as const };
    const move = () => this.#actor.client.master.mutate(Rename, body);
    const done = await this.#change(
      'move',
      [
        [from, name],
        [to, name],
      ],
      move,
    );
    if (done === undefined) return;
    from.names.delete(name);
    to.names.set(name, file);
  }

  async #removeDirectory(parent: TrackedDirectory, name: string, directory: TrackedDirectory): Promise<void> {
    const body = { parent: parent.id, name, directory: true };
    const what = `rmdir ${directory.path}`;
    parent.uncertain.add(name);
    directory.gone = true;
    const remove = () => this.#actor.client.master.mutate(Unlink, body);
    const done = await this.#actor.attemptOr(what, ['NOT_EMPTY'], remove);
    if (done === undefined) {
      parent.directories.delete(name);
      return;
    }
    parent.uncertain.delete(name);
    const isEmpty = directory.names.size === 0;
    if (done === 'NOT_EMPTY') {
      directory.gone = false;
      if (isEmpty && directory.uncertain.size === 0) this.#actor.wrong(what, 'it is empty');
      return;
    }
    if (!isEmpty) this.#actor.wrong(what, `${[...directory.names.keys()]} were in it`);
    parent.directories.delete(name);
  }

  async #changeXattr(): Promise<void> {
    const { random, client } = this.#actor;
    const file = this.#pickFile();
    if (file === undefined || file.seal !== undefined) return;
    const name = random.pick(XATTRS);
    const before = file.xattrs.get(name);
    const what = `xattr ${name} of ${file.path}`;
    if (before !== undefined && random.chance(0.5)) {
      const get = () => client.master.query(GetXattr, { id: file.id, name });
      const found = await this.#actor.attempt(`get ${what}`, get);
      const value = found === undefined ? before : Buffer.from(found.value).toString();
      if (value !== before) this.#actor.wrong(what, `is ${value}, it was set to ${before}`);
      return;
    }
    file.xattrs.delete(name);
    if (before !== undefined && random.chance(0.3)) {
      await this.#actor.attempt(`remove ${what}`, () =>
        client.master.mutate(RemoveXattr, { id: file.id, name }),
      );
      return;
    }
    const value = `value ${this.#nextName++}`;
    const body = { id: file.id, name, value: Buffer.from(value), mode: 'either' as const };
    const done = await this.#actor.attempt(`set ${what}`, () => client.master.mutate(SetXattr, body));
    if (done !== undefined) file.xattrs.set(name, value);
  }

  // Snapshots.

  /** Of one file: written on, or left as it is for good. */
  async #snapshot(): Promise<void> {
    const directory = this.#directory;
    const source = this.#pickFile();
    if (source === undefined || source.frozen || directory.names.size >= MAX_FILES) return;
    if (!this.#takeAll([source])) return;
    const isOpen = this.#actor.random.chance(0.4);
    const open = isOpen ? await this.#contents.begin(source) : undefined;
    if (!source.frozen) await this.#takeSnapshot(directory, source);
    if (open !== undefined) await this.#contents.goOn(source, open);
    this.#releaseAll([source]);
  }

  /** So that what is in them is known at the moment of a snapshot. @returns whether nobody changes them now */
  #takeAll(files: readonly TrackedFile[]): boolean {
    const { name } = this.#actor.context;
    if (files.some((file) => file.editor !== undefined || file.isChangingMode)) return false;
    for (const file of files) {
      take(file, name);
      file.isChangingMode = true;
    }
    return true;
  }

  #releaseAll(files: readonly TrackedFile[]): void {
    for (const file of files) {
      release(file);
      file.isChangingMode = false;
    }
  }

  async #takeSnapshot(directory: TrackedDirectory, source: TrackedFile): Promise<void> {
    const name = this.#newName();
    const body = { id: source.id, parent: directory.id, name };
    const reply = await this.#change(`snapshot ${source.path} as`, [[directory, name]], () => {
      return this.#actor.client.master.mutate(Snapshot, body);
    });
    if (reply === undefined) return;
    const isSealed = this.#actor.random.chance(0.5);
    this.#trackCopy(directory, name, reply.attributes.id, source, isSealed);
  }

  #trackCopy(directory: TrackedDirectory, name: string, id: number, source: TrackedFile, isSealed: boolean) {
    return this.#track(directory, name, {
      id,
      model: source.model.clone(),
      xattrs: new Map(source.xattrs),
      mode: source.mode.clone(),
      seal: isSealed ? new Seal() : undefined,
      // Of a file whose flush has failed the copy's length is not known either.
      frozen: isSealed || !source.model.isSizeCertain,
    });
  }

  /** Of this worker's whole directory, for good. */
  async #snapshotTree(): Promise<void> {
    const source = this.#directory;
    const root = `${this.#actor.name.replaceAll('.', '-')}-tree${this.#nextName++}`;
    const body = { id: source.id, parent: ROOT_ID, name: root };
    const files = filesIn(source);
    if (!this.#takeAll(files)) return;
    const reply = await this.#actor.attempt(`snapshot ${source.path} as ${root}`, () => {
      return this.#actor.client.master.mutate(Snapshot, body);
    });
    if (reply !== undefined) await this.#trackTree(reply.attributes.id, `/${root}`, source);
    this.#releaseAll(files);
  }

  async #trackTree(id: number, path: string, source: TrackedDirectory): Promise<void> {
    const expected = new Map(source.names);
    const expectedDirectories = new Map(source.directories);
    const uncertain = [...source.uncertain];
    const list = () => this.#actor.client.master.query(ReadDirectory, { id, cookie: 0, limit: 1024 });
    const found = await this.#actor.attempt(`list ${path}`, list);
    if (found === undefined) return;
    const copy = this.#trackDirectory(id, path);
    for (const name of uncertain) copy.uncertain.add(name);
    const copies = new Map<TrackedFile, TrackedFile>();
    const idOf = new Map(found.entries.map(({ name, attributes }) => [name, attributes.id]));
    for (const [name, file] of expected) {
      const copyId = idOf.get(name);
      if (copyId === undefined) throw new Violation(`${path}/${name} is not in the snapshot`);
      const earlier = copies.get(file);
      if (earlier !== undefined && earlier.id !== copyId)
        throw new Violation(`${path}/${name} is not the same file as ${earlier.path} any more`);
      if (earlier !== undefined) copy.names.set(name, earlier);
      // What is in a file that was given up, its writer does not know.
      else if (file.frozen && file.seal === undefined) copy.uncertain.add(name);
      else copies.set(file, this.#trackCopy(copy, name, copyId, file, true));
    }
    // Until its listing is there, which the worker need not live to see.
    for (const name of expectedDirectories.keys()) copy.uncertain.add(name);
    for (const [name, directory] of expectedDirectories) {
      const copyId = idOf.get(name);
      if (copyId === undefined) throw new Violation(`${path}/${name} is not in the snapshot`);
      await this.#trackTree(copyId, `${path}/${name}`, directory);
      const tracked = this.#actor.ledger.directories.find((other) => other.id === copyId);
      if (tracked === undefined) continue;
      copy.directories.set(name, tracked);
      if (!uncertain.includes(name)) copy.uncertain.delete(name);
    }
  }
}

function filesIn(directory: TrackedDirectory): TrackedFile[] {
  const below = [...directory.directories.values()].flatMap(filesIn);
  return [...new Set([...directory.names.values(), ...below])];
}
