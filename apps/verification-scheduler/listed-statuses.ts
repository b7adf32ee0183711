import { hash } from 'node:crypto';
import type { SesStatus } from '@app/ses';

/**
 * The status of each identity of a listing, of which there may be millions, nearly all `success`: of those, eight octets are
 * kept. Of the names that are not listed, one in four hundred million passes for one of ten million that are.
 */
export class ListedStatuses {
  private verified = new Float64Array(1_024);
  private count = 0;
  private isSorted = true;
  private readonly others = new Map<string, SesStatus>();

  add(name: string, status: SesStatus): void {
    if (status !== 'success') return void this.others.set(name, status);
    if (this.count === this.verified.length) {
      const larger = new Float64Array(this.count * 2);
      larger.set(this.verified);
      this.verified = larger;
    }
    this.verified[this.count++] = digest(name);
    this.isSorted = false;
  }

  get(name: string): SesStatus | undefined {
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

/** 52 bits: a number holds 53 of them whole. */
const digest = (name: string): number => parseInt(hash('sha256', name, 'hex').slice(0, 13), 16);
