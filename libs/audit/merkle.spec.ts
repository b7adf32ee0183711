import { createHash } from 'node:crypto';
import { inclusionPath, merkleRoot, rootOfPath } from './merkle';

const sha256 = (...parts: Buffer[]) => createHash('sha256').update(Buffer.concat(parts)).digest();
const leavesOf = (count: number) => Array.from({ length: count }, (_, i) => sha256(Buffer.from(`leaf ${i}`)));

/** Computes the root by the recursive definition of RFC 9162 section 2.1.1. */
function recursiveRoot(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 1) return leaves[0]!;
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  return sha256(Buffer.from([1]), recursiveRoot(leaves.slice(0, split)), recursiveRoot(leaves.slice(split)));
}

describe('a Merkle tree', () => {
  const counts = Array.from({ length: 70 }, (_, i) => i + 1);

  it.each(counts)('of %i leaves has the root of RFC 9162', (count) => {
    const leaves = leavesOf(count);
    expect(merkleRoot(Buffer.concat(leaves))).toEqual(recursiveRoot(leaves));
  });

  it('leads from every leaf to its root, and from no other place', () => {
    for (const count of [1, 2, 3, 6, 7, 8, 13, 33]) {
      const leaves = leavesOf(count);
      const joined = Buffer.concat(leaves);
      const root = merkleRoot(joined);
      for (const [index, leaf] of leaves.entries()) {
        const path = inclusionPath(joined, index);
        expect(rootOfPath(leaf, index, count, path)).toEqual(root);
        for (const other of [index - 1, index + 1]) expect(rootOfPath(leaf, other, count, path)).not.toEqual(root);
        expect(rootOfPath(sha256(leaf), index, count, path)).not.toEqual(root);
        expect(rootOfPath(leaf, index, count, [...path, leaf])).toBeUndefined();
        if (path.length > 0) expect(rootOfPath(leaf, index, count, path.slice(1))).not.toEqual(root);
      }
    }
  });
});
