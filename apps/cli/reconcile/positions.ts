/** Positions of the log, as bits. */
export class Positions {
  private octets = Buffer.alloc(1 << 16);

  add(position: number): void {
    const at = Math.floor(position / 8);
    while (at >= this.octets.length) this.octets = Buffer.concat([this.octets, Buffer.alloc(this.octets.length)]);
    this.octets[at]! |= 1 << (position % 8);
  }

  remove(position: number): void {
    const at = Math.floor(position / 8);
    if (at < this.octets.length) this.octets[at]! &= ~(1 << (position % 8));
  }

  /** Gives the first one above a position, and how many there are; undefined for none. */
  above(position: number): { readonly first: number; readonly count: number } | undefined {
    let [first, count] = [0, 0];
    for (let at = Math.floor(position / 8); at < this.octets.length; at++)
      for (let bit = 0; this.octets[at]! >> bit; bit++) {
        const each = at * 8 + bit;
        if (each <= position || !this.has(each)) continue;
        first ||= each;
        count++;
      }
    return count > 0 ? { first, count } : undefined;
  }

  has(position: number): boolean {
    return ((this.octets[Math.floor(position / 8)] ?? 0) & (1 << (position % 8))) !== 0;
  }
}
