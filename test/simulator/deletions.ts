/** Names that go, for good or not: files unlinked and brought back, those that others have open, and directories. */
import type { OpenFile } from '../../client/open-file.js';
import { Rename, Undelete, Unlink } from '../../protocol/messages/index.js';
import type { Actor } from './actor.js';
import type { Contents } from './contents.js';
import type { Home } from './home.js';
import { type DeletedFile, release, type TrackedFile, take } from './ledger.js';

export class Deletions {
  readonly #actor: Actor;
  readonly #home: Home;
  readonly #contents: Contents;
  readonly #deleted: DeletedFile[] = [];

  constructor(actor: Actor, home: Home, contents: Contents) {
    this.#actor = actor;
    this.#home = home;
    this.#contents = contents;
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

  async unlink(): Promise<void> {
    const directory = this.#home.directory;
    const name = this.#home.pickName();
    if (name === undefined) return;
    const file = directory.names.get(name) as TrackedFile;
    const open = await this.#openSometimes(file);
    const isQuiet = isUnused(file);
    this.#home.loseName(file);
    const body = { parent: directory.id, name, directory: false };
    const unlink = () => this.#actor.client.master.mutate(Unlink, body);
    const deletedMs = this.#actor.nowMs;
    const done = await this.#home.change('unlink', [[directory, name]], unlink);
    if (done === undefined) file.hasUnknownNames = true;
    else {
      directory.names.delete(name);
      const isDeleted = file.gone && !file.hasUnknownNames && isQuiet && isUnused(file);
      if (isDeleted && open === undefined) this.#keep({ file, name, deletedMs });
    }
    if (open !== undefined) await this.#useUnlinked(file, open);
  }

  #keep(deleted: DeletedFile): void {
    this.#deleted.push(deleted);
    this.#actor.ledger.deleted.add(deleted);
  }

  /** Under the name that it had, or another one. */
  async undelete(): Promise<void> {
    const { random, client, ledger } = this.#actor;
    const { directory } = this.#home;
    const [deleted] = this.#deleted.splice(random.below(this.#deleted.length + 1), 1);
    if (deleted === undefined || this.#home.isFull) return;
    ledger.deleted.delete(deleted);
    const { file } = deleted;
    const isFree = !directory.names.has(deleted.name) && !directory.uncertain.has(deleted.name);
    const name = isFree ? deleted.name : this.#home.newName();
    const body = { id: file.id, ...(isFree ? {} : { parent: directory.id, name }) };
    const undelete = () => client.master.mutate(Undelete, body);
    const done = await this.#home.change('undelete', [[directory, name]], undelete, ['NOT_FOUND']);
    if (done === undefined) return;
    if (done === 'NOT_FOUND') {
      if (!ledger.mayHaveExpired(deleted, this.#actor.nowMs))
        this.#actor.wrong(`undelete ${file.path}`, 'it is not to be had any more');
      return;
    }
    file.gone = false;
    file.names = 1;
    directory.names.set(name, file);
  }

  async rename(): Promise<void> {
    const { random, client } = this.#actor;
    const directory = this.#home.directory;
    const from = this.#home.pickName();
    const target = random.chance(0.5) ? this.#home.pickName() : undefined;
    if (from === undefined || from === target) return;
    const to = target ?? this.#home.newName();
    const moved = directory.names.get(from) as TrackedFile;
    const replaced = directory.names.get(to);
    if (moved === replaced) return;
    const mode = replaced === undefined ? 'noreplace' : random.pick(['replace', 'exchange'] as const);
    const isReplaced = mode === 'replace' && replaced !== undefined;
    const open = isReplaced ? await this.#openSometimes(replaced) : undefined;
    if (isReplaced) this.#home.loseName(replaced);
    const { id: parent } = directory;
    const body = { parent, name: from, newParent: parent, newName: to, mode };
    const done = await this.#home.change(
      `rename (${mode})`,
      [
        [directory, from],
        [directory, to],
      ],
      () => client.master.mutate(Rename, body),
    );
    if (done === undefined) {
      moved.hasUnknownNames = true;
      if (replaced !== undefined) replaced.hasUnknownNames = true;
    } else {
      directory.names.delete(from);
      directory.names.set(to, moved);
      if (mode === 'exchange' && replaced !== undefined) directory.names.set(from, replaced);
    }
    if (open !== undefined && replaced !== undefined) await this.#useUnlinked(replaced, open);
  }
}

function isUnused({ editor, isChangingMode }: TrackedFile): boolean {
  return editor === undefined && !isChangingMode;
}
