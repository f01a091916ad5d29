/**
 * Structs are encoded and decoded by functions that are written for each of them, field by field, the first time
 * it is used. A loop over the fields would meet every kind of field and every name at the same place in the code,
 * which a processor and V8 are equally bad at: it took a third of the time of a request, three times as much in a
 * process that has just started.
 */

/** What is to be known of a field's codec to write code for it. */
export interface FieldCodec {
  encode(value: unknown): unknown;
  decode(raw: unknown, path: string): unknown;
  /** The value stands for itself on the wire: JavaScript that tells whether a variable holds a right one. */
  readonly plain?: ((variable: string) => string) | undefined;
  /** Where the field may be left out: the codec of what it else holds. */
  readonly inner?: FieldCodec | undefined;
}

/** Name and codec. */
export type StructField = readonly [string, FieldCodec];

const IDENTIFIER = /^[A-Za-z]\w*$/;

/** @returns a function from an object to the array of its fields */
export function structEncoder(fields: readonly StructField[]): (value: unknown) => unknown[] {
  const parts = fields.map(([name, codec], at) => {
    const value = `value.${identifier(name)}`;
    const present = isPlain(codec) ? value : `c${at}.encode(${value})`;
    return codec.inner === undefined ? present : `${value} === undefined ? null : ${present}`;
  });
  return compile('value', `return [${parts.join(', ')}];`, fields) as (value: unknown) => unknown[];
}

/**
 * @param refuse finds out, field by field, what is wrong, and throws that
 * @returns a function from the array of the fields to an object, which has no property for what was left out
 */
export function structDecoder(
  fields: readonly StructField[],
  refuse: (raw: unknown, path: string) => never,
): (raw: unknown, path: string) => unknown {
  const names = fields.map(([name]) => identifier(name));
  const loads = fields.map((_, at) => `const r${at} = raw[${at}];`);
  const checks = fields.flatMap(([, { plain, inner }], at) => {
    if (inner === undefined) return plain === undefined ? [] : [`(${plain(`r${at}`)})`];
    return inner.plain === undefined ? [] : [`(${isAbsent(at)} || (${inner.plain(`r${at}`)}))`];
  });
  const values = fields.map(([, codec], at) => (isPlain(codec) ? `r${at}` : `c${at}.decode(r${at}, '')`));
  const firstOptional = fields.findIndex(([, { inner }]) => inner !== undefined);
  const required = firstOptional < 0 ? fields.length : firstOptional;
  const literal = names.slice(0, required).map((name, at) => `${name}: ${values[at]}`);
  const rest = fields.slice(required).map(([name, { inner }], i) => {
    const at = required + i;
    const set = `out.${name} = ${values[at]};`;
    return inner === undefined ? set : `if (!${isAbsent(at)}) ${set}`;
  });
  const body = `
    if (Array.isArray(raw)) {
      ${loads.join('\n')}
      if (${['true', ...checks].join(' && ')}) {
        try {
          const out = { ${literal.join(', ')} };
          ${rest.join('\n')}
          return out;
        } catch {}
      }
    }
    return refuse(raw, path);`;
  return compile('raw, path', body, fields, refuse) as (raw: unknown, path: string) => unknown;
}

/** Names become code. They are our own, but who knows who will read shapes from somewhere one day. */
function identifier(name: string): string {
  if (!IDENTIFIER.test(name)) throw new Error(`a field of a struct cannot be called ${name}`);
  return name;
}

function isPlain({ plain, inner }: FieldCodec): boolean {
  return (inner ?? { plain }).plain !== undefined;
}

function isAbsent(at: number): string {
  return `(r${at} === null || r${at} === undefined)`;
}

/** The codecs are constants to the code: c0, c1, … */
function compile(
  parameters: string,
  body: string,
  fields: readonly StructField[],
  refuse?: (raw: unknown, path: string) => never,
): unknown {
  const constants = fields.map((_, at) => `const c${at} = fields[${at}][1];`);
  const source = `'use strict'; ${constants.join(' ')} return (${parameters}) => {${body}};`;
  return new Function('fields', 'refuse', 'isByteString', source)(fields, refuse, isByteString);
}

/** One character per byte, `maxBytes` at most. */
export function isByteString(raw: unknown, maxBytes: number): raw is string {
  if (typeof raw !== 'string' || raw.length > maxBytes) return false;
  for (let i = 0; i < raw.length; i++) if (raw.charCodeAt(i) > 0xff) return false;
  return true;
}
