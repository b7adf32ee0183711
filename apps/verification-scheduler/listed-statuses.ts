import { hash } from 'node:crypto';
import type { SesDkimStatus } from '@app/mail-records';

/**
 * Keeps the status of each identity of a listing in little memory: of millions of identities nearly all are `success`,
 * and each of those takes eight octets. A name that is not listed can be mistaken for a listed one because of a hash
 * collision; with ten million identities the probability is one in four hundred million.
 */
export class ListedStatuses {
  private verified = new Float64Array(1_024);
  private count = 0;
  private isSorted = true;
  private readonly others = new Map<string, SesDkimStatus>();

  add(name: string, status: SesDkimStatus): void {
    if (status !== 'success') return void this.others.set(name, status);
    if (this.count === this.verified.length) {
      const larger = new Float64Array(this.count * 2);
      larger.set(this.verified);
      this.verified = larger;
    }
    this.verified[this.count++] = digest(name);
    this.isSorted = false;
  }

  get(name: string): SesDkimStatus | undefined {
    const other = this.others.get(name);
    return other ?? (this.isVerified(digest(name)) ? 'success' : undefined);
  }

  private isVerified(wanted: number): boolean {
    if (!this.isSorted) this.verified.subarray(0, this.count).sort();
    this.isSorted = true;
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.verified[middle]! < wanted) low = middle + 1;
      else high = middle;
    }
    return low < this.count && this.verified[low] === wanted;
  }
}

/** Gives 52 bits of the hash of a name, since a number represents integers exactly up to 53 bits. */
const digest = (name: string): number => parseInt(hash('sha256', name, 'hex').slice(0, 13), 16);
