/**
 * Shapes of what crosses a wire or a disk. A {@link Codec} turns a value into plain msgpack data and
 * back; a struct becomes a positional array (10 times quicker than an object, and half its size).
 * Decoding checks everything: what comes from a socket is hostile until then.
 *
 * A field can be added at the end of a struct as `optional`: old readers pass over it, new readers
 * accept its absence.
 */
import { GfsError } from './errors.js';
import { type FieldCodec, isByteString, structDecoder, structEncoder } from './struct-code.js';

export interface Codec<T> {
  encode(value: T): unknown;
  /** @param path where in the message, for the error @throws MALFORMED */
  decode(raw: unknown, path: string): T;
}

/** What a struct wants to know of the codecs of its fields, beside how to call them. */
type Described<T> = Codec<T> & Pick<FieldCodec, 'plain' | 'inner'>;

export type ValueOf<C> = C extends Codec<infer T> ? T : never;

function malformed(path: string, wanted: string): never {
  throw new GfsError('MALFORMED', `${path}: ${wanted}`);
}

/** Paths are put together on the way out of a failure: a message has dozens of fields, and hardly any fails. */
function within(thrown: unknown, outer: string): unknown {
  if (!(thrown instanceof GfsError)) return thrown;
  return new GfsError(thrown.code, `${outer}${thrown.message}`);
}

const identity = <T>(value: T): unknown => value;

/** A value that stands for itself. @param check tells whether a variable holds a right one, in JavaScript */
function plain<T>(
  check: (variable: string) => string,
  decode: (raw: unknown, path: string) => T,
): Described<T> {
  return { encode: identity, decode, plain: check };
}

/** A whole number from 0 to `max`. */
export function uint(max: number = Number.MAX_SAFE_INTEGER): Codec<number> {
  return plain(
    (r) => `Number.isSafeInteger(${r}) && ${r} >= 0 && ${r} <= ${max}`,
    (raw, path) =>
      Number.isSafeInteger(raw) && (raw as number) >= 0 && (raw as number) <= max
        ? (raw as number)
        : malformed(path, `a whole number from 0 to ${max}`),
  );
}

export const u32: Codec<number> = uint(0xffff_ffff);
/** Ids, handles, sizes and offsets: below 2^53. */
export const u53: Codec<number> = uint();

/** A whole number, of either sign. */
export const int: Codec<number> = plain(
  (r) => `Number.isSafeInteger(${r})`,
  (raw, path) => (Number.isSafeInteger(raw) ? (raw as number) : malformed(path, 'a whole number')),
);

/** Any finite number: coordinates and loads. */
export const real: Codec<number> = plain(
  (r) => `Number.isFinite(${r})`,
  (raw, path) => (Number.isFinite(raw) ? (raw as number) : malformed(path, 'a finite number')),
);

export const bool: Codec<boolean> = plain(
  (r) => `typeof ${r} === 'boolean'`,
  (raw, path) => (typeof raw === 'boolean' ? raw : malformed(path, 'true or false')),
);

/** Text of at most `maxLength` UTF-16 units. */
export function text(maxLength: number): Codec<string> {
  return plain(
    (r) => `typeof ${r} === 'string' && ${r}.length <= ${maxLength}`,
    (raw, path) =>
      typeof raw === 'string' && raw.length <= maxLength
        ? raw
        : malformed(path, `text of at most ${maxLength}`),
  );
}

/**
 * A byte string held as one character per byte (latin1), as names, paths and link targets are: any
 * byte survives, and it can be a Map key.
 */
export function byteString(maxBytes: number): Codec<string> {
  return plain(
    (r) => `isByteString(${r}, ${maxBytes})`,
    (raw, path) =>
      isByteString(raw, maxBytes)
        ? raw
        : malformed(path, `a byte string of at most ${maxBytes}, one character per byte`),
  );
}

/** Binary data. The decoded bytes are a copy: they may be kept. */
export function bytes(maxBytes: number): Codec<Uint8Array> {
  return {
    encode: identity,
    decode: (raw, path) =>
      raw instanceof Uint8Array && raw.byteLength <= maxBytes
        ? copyOf(raw)
        : malformed(path, `at most ${maxBytes} bytes`),
  };
}

const NOTHING = new Uint8Array(0);

function copyOf(raw: Uint8Array): Uint8Array {
  return raw.byteLength === 0 ? NOTHING : Uint8Array.prototype.slice.call(raw);
}

export function oneOf<const V extends string>(...values: readonly V[]): Codec<V> {
  return {
    encode: (value) => values.indexOf(value),
    decode: (raw, path) =>
      (typeof raw === 'number' ? values[raw] : undefined) ??
      malformed(path, `an index into ${values.join(', ')}`),
  };
}

export function list<T>(item: Codec<T>, maxLength: number): Codec<T[]> {
  const { plain: isPlain } = item as Described<T>;
  return {
    encode: isPlain === undefined ? (value) => value.map((each) => item.encode(each)) : identity,
    decode: (raw, path) => {
      if (!Array.isArray(raw) || raw.length > maxLength) malformed(path, `a list of at most ${maxLength}`);
      const out = new Array<T>(raw.length);
      let at = 0;
      try {
        for (; at < raw.length; at++) out[at] = item.decode(raw[at], '');
      } catch (thrown) {
        throw within(thrown, `${path}[${at}]`);
      }
      return out;
    },
  };
}

/** A value or its absence (`undefined` here, nil on the wire). */
export function optional<T>(inner: Codec<T>): Codec<T | undefined> {
  const described: Described<T | undefined> = {
    encode: (value) => (value === undefined ? null : inner.encode(value)),
    decode: (raw, path) => (raw === null || raw === undefined ? undefined : inner.decode(raw, path)),
    inner: inner as FieldCodec,
  };
  return described;
}

type Fields = Readonly<Record<string, Codec<unknown>>>;
type OptionalKeys<F extends Fields> = {
  [K in keyof F]: undefined extends ValueOf<F[K]> ? K : never;
}[keyof F];
type StructOf<F extends Fields> = { [K in Exclude<keyof F, OptionalKeys<F>>]: ValueOf<F[K]> } & {
  [K in OptionalKeys<F>]?: ValueOf<F[K]>;
};

/** A struct, as an array of its fields in the order written. */
// biome-ignore lint/suspicious/noExplicitAny: a codec is invariant in its type; `any` lets every codec be a field
export function struct<const F extends Readonly<Record<string, Codec<any>>>>(fields: F): Codec<StructOf<F>> {
  const shape = Object.entries(fields) as [string, FieldCodec][];
  const refuse = (raw: unknown, path: string): never => {
    if (!Array.isArray(raw)) malformed(path, 'a struct');
    try {
      for (const [at, [name, codec]] of shape.entries()) codec.decode(raw[at], name);
    } catch (thrown) {
      throw within(thrown, `${path}.`);
    }
    throw new Error(`${path}: refused, though each of its fields is right`);
  };
  let encoder: ((value: unknown) => unknown) | undefined;
  let decoder: ((raw: unknown, path: string) => unknown) | undefined;
  // Those that are written for it take the place of those that have them written.
  const codec = {
    encode: (value: unknown) => {
      encoder ??= structEncoder(shape);
      codec.encode = encoder;
      return encoder(value);
    },
    decode: (raw: unknown, path: string) => {
      decoder ??= structDecoder(shape, refuse);
      codec.decode = decoder;
      return decoder(raw, path);
    },
  };
  return codec as Codec<StructOf<F>>;
}

// biome-ignore lint/suspicious/noExplicitAny: as for struct
type Variants = Readonly<Record<string, { readonly number: number; readonly body: Codec<any> }>>;
export type VariantOf<V extends Variants> = {
  [K in keyof V & string]: { readonly type: K } & ValueOf<V[K]['body']>;
}[keyof V & string];

/** One of several structs, told apart by `type`; written as [number, struct]. */
export function variant<const V extends Variants>(variants: V): Codec<VariantOf<V>> {
  const nameOf = new Map(Object.entries(variants).map(([name, { number }]) => [number, name]));
  return {
    encode: (value) => {
      const { number, body } = variants[value.type] as Variants[string];
      return [number, body.encode(value)];
    },
    decode: (raw, path) => {
      if (!Array.isArray(raw)) malformed(path, 'a variant');
      const name = nameOf.get(raw[0]);
      if (name === undefined)
        throw new GfsError('UNKNOWN_MESSAGE', `${path}: unknown type ${String(raw[0])}`);
      const body = (variants[name] as Variants[string]).body.decode(raw[1], `${path}.${name}`);
      return { type: name, ...body } as VariantOf<V>;
    },
  };
}
