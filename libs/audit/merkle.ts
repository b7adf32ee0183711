import { hash } from 'node:crypto';

/*
 * Merkle trees as RFC 9162 section 2.1 defines them, over SHA-256. A leaf is the hash of an event; the first octet of
 * its input is 0, as that section requires of leaves.
 */

const size = 32;

const node = Buffer.alloc(1 + 2 * size);
node[0] = 1;

function parentOf(children: Buffer, at: number, parent: Buffer, to: number): void {
  children.copy(node, 1, at, at + 2 * size);
  parent.write(hash('sha256', node, 'binary'), to, size, 'latin1');
}

/**
 * Computes the root of the tree over the leaves (section 2.1.1). A node without a sibling moves up a level unchanged,
 * which gives the same tree as splitting at the largest power of two.
 *
 * @param leaves at least one, 32 octets each, concatenated.
 */
export function merkleRoot(leaves: Buffer): Buffer {
  let level = leaves;
  while (level.length > size) {
    const above = Buffer.allocUnsafe(Math.ceil(level.length / (2 * size)) * size);
    let to = 0;
    for (let at = 0; at + 2 * size <= level.length; at += 2 * size, to += size) parentOf(level, at, above, to);
    if (to < above.length) level.copy(above, to, level.length - size);
    level = above;
  }
  return Buffer.from(level);
}

/** Gives the siblings from a leaf up to the root (section 2.1.3.1). */
export function inclusionPath(leaves: Buffer, index: number): Buffer[] {
  const path: Buffer[] = [];
  for (let level = leaves, place = index; level.length > size; place >>= 1) {
    const sibling = (place ^ 1) * size;
    if (sibling < level.length) path.push(Buffer.from(level.subarray(sibling, sibling + size)));
    const above = Buffer.allocUnsafe(Math.ceil(level.length / (2 * size)) * size);
    for (let at = 0; at < level.length; at += 2 * size)
      if (at + 2 * size <= level.length) parentOf(level, at, above, at / 2);
      else level.copy(above, at / 2, at);
    level = above;
  }
  return path;
}

/** Computes the root from a leaf and its path (section 2.1.3.2); undefined when the path does not fit. */
export function rootOfPath(leaf: Buffer, index: number, count: number, path: readonly Buffer[]): Buffer | undefined {
  if (!Number.isInteger(index) || index < 0 || index >= count) return undefined;
  let [place, last, root] = [index, count - 1, leaf];
  const siblings = [...path];
  const pair = Buffer.alloc(2 * size);
  while (last > 0) {
    // The last node of a level with an odd number of nodes has no sibling.
    if (place % 2 === 1 || place < last) {
      const sibling = siblings.shift();
      if (sibling?.length !== size) return undefined;
      const [left, right] = place % 2 === 1 ? [sibling, root] : [root, sibling];
      left.copy(pair, 0);
      right.copy(pair, size);
      root = Buffer.alloc(size);
      parentOf(pair, 0, root, 0);
    }
    place >>= 1;
    last >>= 1;
  }
  return siblings.length === 0 ? root : undefined;
}
