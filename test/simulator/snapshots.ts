/** Snapshots of a worker's files and of all that it has. */
import { ReadDirectory, ROOT_ID, Snapshot } from '../../protocol/messages/index.js';
import type { Actor } from './actor.js';
import type { Contents } from './contents.js';
import type { Home } from './home.js';
import { release, Seal, type TrackedDirectory, type TrackedFile, take, Violation } from './ledger.js';

export class Snapshots {
  readonly #actor: Actor;
  readonly #home: Home;
  readonly #contents: Contents;

  constructor(actor: Actor, home: Home, contents: Contents) {
    this.#actor = actor;
    this.#home = home;
    this.#contents = contents;
  }

  /** Of one file: written on, or left as it is for good. */
  async ofFile(): Promise<void> {
    const directory = this.#home.directory;
    const source = this.#home.pickFile();
    if (source === undefined || source.frozen || this.#home.isFull) return;
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
    const name = this.#home.newName();
    const body = { id: source.id, parent: directory.id, name };
    const reply = await this.#home.change(`snapshot ${source.path} as`, [[directory, name]], () => {
      return this.#actor.client.master.mutate(Snapshot, body);
    });
    if (reply === undefined) return;
    const isSealed = this.#actor.random.chance(0.5);
    this.#trackCopy(directory, name, reply.attributes.id, source, isSealed);
  }

  #trackCopy(directory: TrackedDirectory, name: string, id: number, source: TrackedFile, isSealed: boolean) {
    return this.#home.track(directory, name, {
      id,
      model: source.model.clone(),
      xattrs: new Map(source.xattrs),
      mode: source.mode.clone(),
      goal: source.goal.clone(),
      seal: isSealed ? new Seal() : undefined,
      // Of a file whose flush has failed the copy's length is not known either.
      frozen: isSealed || !source.model.isSizeCertain,
    });
  }

  /** Of this worker's whole directory, for good. */
  async ofTree(): Promise<void> {
    const source = this.#home.directory;
    const root = `${this.#actor.name.replaceAll('.', '-')}-tree${this.#home.newName()}`;
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
    const copy = this.#home.trackDirectory(id, path, source.goal);
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
