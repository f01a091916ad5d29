/** The order in which programs walk through a tree: what a directory has before what comes after the directory. */

/** As far as it is known. */
export interface KnownTree {
  /** All of a directory, in order. */
  nodesListed(directory: number): readonly { readonly node: number }[] | undefined;
  /** Where a node was met. */
  directoryOf(node: number): number | undefined;
}

/** Directories above and below that are gone through; names that are looked at on the way, wanted or not. */
const MAX_DEPTH = 64;
const MAX_NAMES = 1_024;

/** What is in the directories below this one, then what comes after it. Ends where nothing is known. */
export function* following(tree: KnownTree, directory: number): Iterable<number> {
  const left = { names: MAX_NAMES };
  for (const { node } of tree.nodesListed(directory) ?? []) {
    if (--left.names < 0) return;
    yield* below(tree, node, 0, left);
  }
  let before = directory;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const above = tree.directoryOf(before);
    const listed = above === undefined ? undefined : tree.nodesListed(above);
    if (above === undefined || listed === undefined) return;
    let isAfter = false;
    for (const { node } of listed) {
      if (--left.names < 0) return;
      if (isAfter) {
        yield node;
        yield* below(tree, node, 0, left);
      }
      isAfter ||= node === before;
    }
    before = above;
  }
}

function* below(
  tree: KnownTree,
  directory: number,
  depth: number,
  left: { names: number },
): Iterable<number> {
  if (depth === MAX_DEPTH) return;
  for (const { node } of tree.nodesListed(directory) ?? []) {
    if (--left.names < 0) return;
    yield node;
    yield* below(tree, node, depth + 1, left);
  }
}
