/**
 * Reads a configuration: defaults, then the file, then the environment (`GFS_MASTER_PORT`), then
 * `--set master.port=…`. Whatever is not known is refused, with its place and the name that was
 * probably meant: a misspelt key that is ignored is found out when the data is lost.
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { EXIT_FAILED, EXIT_USAGE, Failure } from '../failure.js';
import { type Configuration, everyKey, type Key, type SectionName, sections } from './keys.js';
import { nearest } from './nearest.js';
import { BadValue } from './values.js';

/** A configuration that cannot be used; the message tells every reason, one a line, and where. */
export class ConfigurationError extends Failure {
  /** @param isUsage the command line is at fault, not a file or the environment */
  constructor(message: string, isUsage = false) {
    super(message, undefined, isUsage ? EXIT_USAGE : EXIT_FAILED);
  }
}

export interface ConfigurationSources {
  /** A TOML file. */
  readonly file?: string | undefined;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly assignments?: readonly Assignment[];
}

/** A value from a command line. */
export interface Assignment {
  /** `section.key=value`, the value as in TOML; quotes may be left out. */
  readonly text: string;
  /** The option that it came from, for messages. */
  readonly option: string;
}

/** Where a value came from, for `gfs config show`. */
export type Origin = 'default' | 'file' | 'environment' | 'command line';

export interface LoadedConfiguration {
  readonly configuration: Configuration;
  readonly origins: ReadonlyMap<string, Origin>;
}

const ENVIRONMENT_PREFIX = 'GFS_';

type Values = Record<string, Record<string, unknown>>;

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Keys in the order of how probable a slip is: those of the section, then everybody's. */
function suggestKey(section: SectionName, name: string): string {
  const elsewhere = Object.entries(sections).find(([, other]) => Object.hasOwn(other.keys, name));
  if (elsewhere !== undefined) return `: it belongs in [${elsewhere[0]}]`;
  const near = nearest(name, Object.keys(sections[section].keys));
  if (near !== undefined) return `: did you mean '${near}'?`;
  return `; [${section}] has ${Object.keys(sections[section].keys).join(', ')}`;
}

function suggestSection(name: string): string {
  const near = nearest(name, Object.keys(sections));
  return near === undefined ? `; there are ${Object.keys(sections).join(', ')}` : `: did you mean [${near}]?`;
}

/** The line of a key or of a section's header in TOML text that is known to parse; undefined when it is written unusually. */
export function lineOf(text: string, section: string, name?: string): number | undefined {
  const bare = (written: string) => written.trim().replaceAll(/^["']|["']$/g, '');
  let current = '';
  for (const [index, line] of text.split('\n').entries()) {
    const header = /^\s*\[([^[\]]+)\]/.exec(line)?.[1];
    if (header !== undefined) {
      current = bare(header);
      if (name === undefined && current === section) return index + 1;
      continue;
    }
    const assigned = /^\s*([^=#]+?)\s*=/.exec(line)?.[1];
    if (assigned === undefined) continue;
    const parts = assigned.split('.').map(bare);
    const full = current === '' ? parts : [current, ...parts];
    if (full[0] === section && (name === undefined || full[1] === name)) return index + 1;
  }
  return undefined;
}

/** Collects problems, so that one run shows them all. */
class Loader {
  readonly values: Values = {};
  readonly origins = new Map<string, Origin>();
  readonly problems: string[] = [];

  constructor() {
    for (const { section, name, key } of everyKey()) {
      const keys = this.values[section] ?? {};
      keys[name] = key.fallback;
      this.values[section] = keys;
      this.origins.set(`${section}.${name}`, 'default');
    }
  }

  #set(section: SectionName, name: string, raw: unknown, origin: Origin, place: string): void {
    const key = (sections[section].keys as Readonly<Record<string, Key<unknown>>>)[name];
    if (key === undefined) {
      this.problems.push(`${place}: unknown key '${name}' in [${section}]${suggestKey(section, name)}`);
      return;
    }
    try {
      const value = raw instanceof Loose ? raw.parseAs(key) : key.type.parse(raw);
      (this.values[section] as Record<string, unknown>)[name] = value;
      this.origins.set(`${section}.${name}`, origin);
    } catch (error) {
      if (!(error instanceof BadValue)) throw error;
      this.problems.push(`${place}: ${section}.${name} must be ${error.message}`);
    }
  }

  addFile(file: string): void {
    const text = readText(file);
    const place = (line: number | undefined) => (line === undefined ? file : `${file}:${line}`);
    for (const [section, table] of Object.entries(parseToml(text, file))) {
      if (!Object.hasOwn(sections, section) || !isTable(table)) {
        const what = isTable(table) ? `section [${section}]` : `key '${section}' outside a section`;
        const hint = isTable(table) ? suggestSection(section) : outsideSection(section);
        this.problems.push(`${place(lineOf(text, section))}: unknown ${what}${hint}`);
        continue;
      }
      for (const [name, raw] of Object.entries(table)) {
        this.#set(section as SectionName, name, raw, 'file', place(lineOf(text, section, name)));
      }
    }
    this.#resolvePaths(dirname(resolve(file)));
  }

  /** Paths of a file are relative to it, so that a program started elsewhere finds the same data. */
  #resolvePaths(directory: string): void {
    const {
      master,
      chunk_server: chunkServer,
      log,
    } = this.values as unknown as {
      master: { data: string };
      chunk_server: { disks: readonly string[] };
      log: { file: string | undefined };
    };
    if (this.origins.get('master.data') === 'file') master.data = resolve(directory, master.data);
    if (this.origins.get('chunk_server.disks') === 'file') {
      chunkServer.disks = chunkServer.disks.map((disk) => resolve(directory, disk));
    }
    if (log.file !== undefined) log.file = resolve(directory, log.file);
  }

  addEnvironment(environment: Readonly<Record<string, string | undefined>>): void {
    const variables = new Map(
      [...everyKey()].map((each) => [variableOf(each.section, each.name), each] as const),
    );
    for (const [variable, text] of Object.entries(environment)) {
      const known = variables.get(variable);
      if (known !== undefined && text !== undefined) {
        this.#set(known.section, known.name, new Loose(text), 'environment', `environment ${variable}`);
      } else if (Object.keys(sections).some((section) => variable.startsWith(variableOf(section, '')))) {
        const near = nearest(variable, variables.keys());
        const hint = near === undefined ? '' : `: did you mean ${near}?`;
        this.problems.push(`environment ${variable}: no such key${hint}`);
      }
    }
  }

  /** @returns whether it can be used */
  addAssignment({ text, option }: Assignment): boolean {
    const before = this.problems.length;
    const match = /^([^.=]+)\.([^.=]+)=(.*)$/s.exec(text);
    const [section, name, value] = [match?.[1], match?.[2], match?.[3]];
    if (section === undefined || name === undefined || value === undefined) {
      this.problems.push(`${option} ${text}: write SECTION.KEY=VALUE, as in --set master.port=5000`);
    } else if (!Object.hasOwn(sections, section)) {
      this.problems.push(`${option} ${text}: unknown section '${section}'${suggestSection(section)}`);
    } else {
      this.#set(section as SectionName, name, new Loose(value), 'command line', option);
    }
    return this.problems.length === before;
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const reason = code === 'ENOENT' ? 'there is no such file' : (error as Error).message;
    throw new ConfigurationError(`${file}: cannot read the configuration: ${reason}`);
  }
}

function parseToml(text: string, file: string): Record<string, unknown> {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const reason = error.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '');
    throw new ConfigurationError(`${file}:${error.line}:${error.column}: not TOML: ${reason}`);
  }
}

function outsideSection(name: string): string {
  const owner = Object.entries(sections).find(([, section]) => Object.hasOwn(section.keys, name));
  return owner === undefined ? '' : `: it belongs in [${owner[0]}]`;
}

/** The environment variable of a key. */
export function variableOf(section: string, name: string): string {
  return `${ENVIRONMENT_PREFIX}${section}_${name}`.toUpperCase();
}

/** A value outside a file: as in TOML, or a string without its quotes. */
class Loose {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** A rack named `12` is a string all the same. @throws BadValue */
  parseAs(key: Key<unknown>): unknown {
    try {
      return key.type.parse(parse(`value = ${this.#text}`).value);
    } catch {
      return key.type.parse(this.#text);
    }
  }
}

/** @throws ConfigurationError naming every unknown key and every bad value */
export function loadConfiguration(sources: ConfigurationSources): LoadedConfiguration {
  const loader = new Loader();
  if (sources.file !== undefined) loader.addFile(sources.file);
  loader.addEnvironment(sources.environment ?? {});
  let isUsage = false;
  for (const assignment of sources.assignments ?? []) isUsage = !loader.addAssignment(assignment) || isUsage;
  if (loader.problems.length === 0) {
    for (const { problem, keys } of contradictions(loader.values)) {
      loader.problems.push(problem);
      isUsage ||= keys.some((key) => loader.origins.get(key) === 'command line');
    }
  }
  if (loader.problems.length > 0) throw new ConfigurationError(loader.problems.join('\n'), isUsage);
  return { configuration: loader.values as unknown as Configuration, origins: loader.origins };
}

/** What no single value can show. */
function contradictions(values: Values): { readonly problem: string; readonly keys: readonly string[] }[] {
  const { master } = values as unknown as Configuration;
  const found = [];
  if (master.chunk_size % (64 * 1024) !== 0) {
    const problem =
      'master.chunk_size must be a multiple of 64KiB, the unit of a checksum; write "64MiB" for the usual one';
    found.push({ problem, keys: ['master.chunk_size'] });
  }
  if (master.session_timeout < 2 * master.session_renewal) {
    const problem = 'master.session_timeout must be at least twice master.session_renewal';
    found.push({ problem, keys: ['master.session_timeout', 'master.session_renewal'] });
  }
  return found;
}

/** The configuration as a TOML file, with each value's origin. */
export function showConfiguration(loaded: LoadedConfiguration): string {
  const lines: string[] = [];
  let section = '';
  for (const each of everyKey()) {
    if (each.section !== section) {
      section = each.section;
      lines.push(...(lines.length === 0 ? [] : ['']), `[${section}]`);
    }
    const value = (loaded.configuration[each.section] as Readonly<Record<string, unknown>>)[each.name];
    const origin = loaded.origins.get(`${section}.${each.name}`);
    const comment = origin === 'default' ? '' : `  # ${origin}`;
    lines.push(
      value === undefined
        ? `# ${each.name} is not set`
        : `${each.name} = ${each.key.type.show(value)}${comment}`,
    );
  }
  return `${lines.join('\n')}\n`;
}
