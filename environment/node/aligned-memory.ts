/**
 * Memory at addresses that O_DIRECT accepts. Node tells no addresses and gives no say in them; but a
 * WebAssembly memory begins at the start of a page.
 */
export const PAGE_BYTES = 4096;
const WASM_PAGE_BYTES = 65_536;

/** Node has it, its types have not. */
declare const WebAssembly: {
  readonly Memory: new (pages: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer };
};

const aligned = new WeakSet<ArrayBufferLike>();

/** Zeroed memory that begins at a page's start; ordinary memory where the address space is limited (ulimit -v). */
export function pageAligned(sizeBytes: number): Uint8Array {
  const pages = Math.ceil(sizeBytes / WASM_PAGE_BYTES);
  try {
    const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages });
    aligned.add(buffer);
    return new Uint8Array(buffer, 0, sizeBytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return new Uint8Array(sizeBytes);
  }
}

/** Whether the bytes lie in memory of {@link pageAligned}, at the start of a page. */
export function isPageAligned(bytes: Uint8Array): boolean {
  return bytes.byteOffset % PAGE_BYTES === 0 && aligned.has(bytes.buffer);
}
