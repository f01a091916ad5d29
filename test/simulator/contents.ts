/** What one worker does with the bytes of files: its own, those of others, and those that all append to. */
import { copyRange } from '../../client/index.js';
import type { OpenFile } from '../../client/open-file.js';
import type { Actor } from './actor.js';
import type { Guest } from './guest.js';
import { type AppendFile, release, type TrackedFile, take, Violation } from './ledger.js';
import { checkAppends, readWhole } from './reading.js';

const MAX_FILE_BYTES = 700_000;

export class Contents {
  readonly #actor: Actor;
  readonly #guest: Guest;

  constructor(actor: Actor, guest: Guest) {
    this.#actor = actor;
    this.#guest = guest;
  }

  /** Opens a file, writes and reads it for a while, and closes it. */
  async edit(tracked: TrackedFile): Promise<void> {
    if (tracked.frozen || tracked.seal !== undefined) return;
    const { name, pages } = this.#actor.context;
    if (!take(tracked, name)) return;
    pages?.beginEdit(tracked.id);
    await this.#edit(tracked);
    pages?.endEdit(tracked.id);
    release(tracked);
  }

  async #edit(tracked: TrackedFile): Promise<void> {
    const { client } = this.#actor;
    // One that is open here already is not asked for anew before it is read.
    const isOpen = client.openFile(tracked.id) !== undefined;
    const file = await this.#actor.attempt(`open ${tracked.path}`, () => client.open(tracked.id, {}));
    if (file === undefined) return;
    if (!isOpen && file.size !== tracked.model.size) {
      this.#actor.wrong(
        `open ${tracked.path}`,
        `${file.size} bytes long, ${tracked.model.size} were written`,
      );
    }
    const actions = [
      () => this.#write(tracked, file),
      () => this.#write(tracked, file),
      () => this.#write(tracked, file),
      () => this.#flush(tracked, file),
      () => this.#sync(tracked, file),
      () => this.#readOwn(tracked, file),
      () => this.#truncate(tracked, file),
      () => this.#copy(tracked, file),
    ];
    for (let count = 1 + this.#actor.random.below(6); count > 0 && !tracked.frozen; count--) {
      await this.#actor.random.pick(actions)();
      if (this.#actor.random.chance(0.2)) await this.#actor.pause(300);
    }
    if (!tracked.frozen) await this.#flush(tracked, file);
    await client.close(file);
    if (!tracked.model.isSizeCertain) tracked.frozen = true;
  }

  /** Opens a file and writes to it, for {@link goOn}. */
  async begin(tracked: TrackedFile): Promise<OpenFile | undefined> {
    const open = () => this.#actor.client.open(tracked.id, {});
    const file = await this.#actor.attempt(`open ${tracked.path}`, open);
    if (file === undefined) return undefined;
    await this.#write(tracked, file);
    await this.#flush(tracked, file);
    return file;
  }

  /** Writes to a file that was open all the time, and closes it. */
  async goOn(tracked: TrackedFile, file: OpenFile): Promise<void> {
    await this.#write(tracked, file);
    await this.#flush(tracked, file);
    await this.#readOwn(tracked, file);
    await this.#actor.client.close(file);
    if (!tracked.model.isSizeCertain) tracked.frozen = true;
  }

  /** Its last name is gone, or another file has it: who has it open goes on as before. */
  async useUnlinked(tracked: TrackedFile, file: OpenFile): Promise<void> {
    // Where deleted files are kept for two seconds only, the master may not have heard in time that it is open.
    this.#actor.excused.add('STALE_NODE');
    await this.#readOwn(tracked, file);
    await this.#write(tracked, file);
    await this.#flush(tracked, file);
    await this.#readOwn(tracked, file);
    await this.#actor.client.close(file);
    this.#actor.excused.delete('STALE_NODE');
  }

  #bytes(): Buffer {
    const count = this.#actor.random.chance(0.7)
      ? 1 + this.#actor.random.below(6_000)
      : 1 + this.#actor.random.below(180_000);
    const bytes = Buffer.alloc(count);
    const [start, step] = [this.#actor.random.below(256), 1 + 2 * this.#actor.random.below(100)];
    for (let at = 0; at < count; at++) bytes[at] = (start + at * step + (at >> 8)) & 0xff;
    return bytes;
  }

  async #write(tracked: TrackedFile, file: OpenFile): Promise<void> {
    const bytes = this.#bytes();
    const { size } = tracked.model;
    const offset = this.#actor.random.chance(0.4) ? size : this.#actor.random.below(size + 20_000);
    if (offset + bytes.byteLength > MAX_FILE_BYTES) return;
    tracked.model.write(offset, Buffer.from(bytes));
    const range = `${offset} to ${offset + bytes.byteLength}`;
    const done = await this.#actor.attempt(`write ${tracked.path} ${range}`, async () => {
      const written = file.write(offset, bytes);
      // The library took a copy: the caller may use its buffer again.
      bytes.fill(0xee);
      await written;
      return true;
    });
    if (done === undefined) tracked.model.flushFailed();
  }

  /** copy_file_range(2), from where everything is certain to another place in the same file. */
  async #copy(tracked: TrackedFile, file: OpenFile): Promise<void> {
    const { random, client } = this.#actor;
    await this.#sync(tracked, file);
    const from = random.below(Math.max(1, tracked.model.size));
    const bytes = tracked.model.certain(from, 1 + random.below(180_000));
    const to = random.below(tracked.model.size + 20_000);
    if (bytes === undefined || bytes.byteLength === 0 || to + bytes.byteLength > MAX_FILE_BYTES) return;
    if (Math.abs(from - to) < bytes.byteLength) return;
    tracked.model.write(to, bytes);
    const done = await this.#actor.attempt(`copy in ${tracked.path} from ${from} to ${to}`, async () => {
      for (let at = 0; at < bytes.byteLength; ) {
        const source = { file, offset: from + at };
        const count = await copyRange(client, source, { file, offset: to + at }, bytes.byteLength - at, {});
        if (count === 0) throw new Violation(`a copy from ${from + at} of ${tracked.path} found its end`);
        at += count;
      }
      return true;
    });
    if (done === undefined) tracked.model.flushFailed();
  }

  async #flush(tracked: TrackedFile, file: OpenFile): Promise<void> {
    const done = await this.#actor.attempt(`flush ${tracked.path}`, () => file.flush({}).then(() => true));
    if (done === undefined) tracked.model.flushFailed();
    else tracked.model.flushed();
  }

  async #sync(tracked: TrackedFile, file: OpenFile): Promise<void> {
    const done = await this.#actor.attempt(`sync ${tracked.path}`, () => file.sync({}).then(() => true));
    if (done === undefined) {
      tracked.model.syncFailed();
      return;
    }
    tracked.model.flushed();
    tracked.model.synced();
  }

  async #readOwn(tracked: TrackedFile, file: OpenFile): Promise<void> {
    const what = `read own ${tracked.path}`;
    const seen = await this.#actor.attempt(what, () => readWhole(file));
    if (seen === undefined) tracked.model.flushFailed();
    else this.#actor.wrong(what, tracked.model.checkOwn(seen, !this.#actor.ledger.calm));
  }

  async #truncate(tracked: TrackedFile, file: OpenFile): Promise<void> {
    const size = this.#actor.random.chance(0.2) ? 0 : this.#actor.random.below(tracked.model.size + 30_000);
    if (size > MAX_FILE_BYTES) return;
    tracked.model.truncating(size);
    const done = await this.#actor.attempt(`truncate ${tracked.path} to ${size}`, () => {
      return this.#actor.client.setAttributes(file.id, { size }, {});
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

  async append(): Promise<void> {
    const { client, ledger, reading } = this.#actor.context;
    const target = this.#actor.random.pick(ledger.appendFiles);
    if (reading.has(target.id)) return;
    const file = await this.#actor.attempt(`open ${target.path}`, () => client.open(target.id, {}));
    if (file === undefined) return;
    const mine = new Set<number>();
    for (let count = 1 + this.#actor.random.below(4); count > 0; count--)
      await this.#appendOne(target, file, mine);
    if (this.#actor.random.chance(0.5)) {
      const done = await this.#actor.attempt(`sync ${target.path}`, () => file.sync({}).then(() => true));
      if (done !== undefined) target.model.synced(mine);
    }
    await client.close(file);
  }

  async #appendOne(target: AppendFile, file: OpenFile, mine: Set<number>): Promise<void> {
    const { id, record } = target.model.make(
      this.#actor.random,
      this.#actor.random.chance(0.9) ? 600 : 20_000,
    );
    const { crashes } = this.#actor.ledger;
    const offset = await this.#actor.attempt(`append record ${id} to ${target.path}`, async () => {
      if (target.mode === 'record') return file.appendRecord(record, {});
      let at = 0;
      const noteOffset = (where: number) => {
        at = where;
      };
      noteOffset(await file.append(record, noteOffset));
      await file.flush({});
      return at;
    });
    // Where a host crashed meanwhile it may have been written before, and be lost with that.
    if (offset === undefined || crashes !== this.#actor.ledger.crashes) return;
    target.model.acknowledged(id, offset, record);
    mine.add(id);
  }

  async readAppended(): Promise<void> {
    const { client, ledger, reading } = this.#actor.context;
    const target = this.#actor.random.pick(ledger.appendFiles);
    if (client.master.caches && this.#actor.random.chance(0.6)) return this.#guest.readAppended(target);
    if (reading.has(target.id) || client.openFile(target.id) !== undefined) return;
    reading.add(target.id);
    try {
      await checkAppends(this.#actor.context, target, this.#actor.attempt);
    } finally {
      reading.delete(target.id);
    }
  }
}
