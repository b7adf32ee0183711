import { hash } from 'node:crypto';

/**
 * Remembers names in eight octets each: a listing may have millions. A name that was never added can be mistaken for
 * one that was because of a hash collision; with ten million names the probability is one in four hundred million.
 */
export class SeenNames {
  private digests = new Float64Array(1_024);
  private count = 0;
  private isSorted = true;

  get size(): number {
    return this.count;
  }

  add(name: string): void {
    if (this.count === this.digests.length) {
      const larger = new Float64Array(this.count * 2);
      larger.set(this.digests);
      this.digests = larger;
    }
    this.digests[this.count++] = digest(name);
    this.isSorted = false;
  }

  has(name: string): boolean {
    if (!this.isSorted) this.digests.subarray(0, this.count).sort();
    this.isSorted = true;
    const wanted = digest(name);
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.digests[middle]! < wanted) low = middle + 1;
      else high = middle;
    }
    return low < this.count && this.digests[low] === wanted;
  }
}

/** Gives 52 bits of the hash of a name, since a number represents integers exactly up to 53 bits. */
const digest = (name: string): number => parseInt(hash('sha256', name, 'hex').slice(0, 13), 16);
