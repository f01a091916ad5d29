/** The order in which programs walk through a tree: what a directory has before what comes after the directory. */

/** As far as it is known. */
export interface KnownTree {
  /** All of a directory, in order. */
  nodesListed(directory: number): readonly { readonly node: number }[] | undefined;
  /** Where a node was met. */
  directoryOf(node: number): number | undefined;
}

/** Directories above and below that are gone through; names that are passed over to find a directory in its parent. */
const MAX_DEPTH = 64;
const MAX_PASSED = 4_096;

/** What is in the directories below this one, then what comes after it. Ends where nothing is known. */
export function* following(tree: KnownTree, directory: number): Iterable<number> {
  for (const { node } of tree.nodesListed(directory) ?? []) yield* below(tree, node, 0);
  let before = directory;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const above = tree.directoryOf(before);
    const listed = above === undefined ? undefined : tree.nodesListed(above);
    if (above === undefined || listed === undefined) return;
    const at = listed.findIndex(({ node }, passed) => node === before || passed >= MAX_PASSED);
    if (listed[at]?.node !== before) return;
    for (let next = at + 1; next < listed.length; next++) {
      const { node } = listed[next] as { node: number };
      yield node;
      yield* below(tree, node, 0);
    }
    before = above;
  }
}

function* below(tree: KnownTree, directory: number, depth: number): Iterable<number> {
  if (depth === MAX_DEPTH) return;
  for (const { node } of tree.nodesListed(directory) ?? []) {
    yield node;
    yield* below(tree, node, depth + 1);
  }
}
