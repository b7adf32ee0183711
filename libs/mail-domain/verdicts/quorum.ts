/** What one resolver said to one question. */
export type Answer<Rr> =
  /** RRs of the queried type; `aliases` are the CNAMEs on the way, in their order. */
  | { readonly kind: 'records'; readonly records: readonly Rr[]; readonly aliases: readonly string[] }
  /** The name exists, without the queried type (RFC 2308 section 2.2). */
  | { readonly kind: 'nodata'; readonly aliases: readonly string[] }
  | { readonly kind: 'nxdomain'; readonly aliases: readonly string[] }
  | { readonly kind: 'servfail' }
  /** No answer that counts: time-out, REFUSED, a broken message, a status other than 200. */
  | { readonly kind: 'unreachable'; readonly reason: string };

export interface MxRr {
  readonly preference: number;
  /** Lower case, without the trailing dot; empty for the root (RFC 7505). */
  readonly exchange: string;
}

/** The concatenated character-strings of one TXT RR, a character a byte. */
export type TxtRr = string;

/** What all resolvers together say. */
export type Agreed<Rr> =
  | Exclude<Answer<Rr>, { kind: 'unreachable' }>
  | { readonly kind: 'unreachable'; readonly reasons: readonly string[] }
  | { readonly kind: 'disagreement'; readonly records: readonly Rr[] };

/**
 * One answer out of several. Those that agree are the answer; a resolver that gives none leaves it to the others; those
 * that disagree decide nothing. SERVFAIL is definite when two resolvers or more were asked and all of them say it: an
 * outage of the DNS provider is the customer's, one of a resolver is ours.
 */
export function quorum<Rr>(answers: readonly Answer<Rr>[]): Agreed<Rr> {
  const definite = answers.filter((answer) => answer.kind !== 'servfail' && answer.kind !== 'unreachable');
  const [first] = definite;
  if (first) {
    if (definite.every((answer) => meaning(answer) === meaning(first))) return first;
    return {
      kind: 'disagreement',
      records: definite.flatMap((answer) => (answer.kind === 'records' ? answer.records : [])),
    };
  }
  if (answers.length > 1 && answers.every((answer) => answer.kind === 'servfail')) return { kind: 'servfail' };
  return {
    kind: 'unreachable',
    reasons: answers.map((answer) => (answer.kind === 'unreachable' ? answer.reason : 'SERVFAIL')),
  };
}

/** NXDOMAIN and NODATA mean the same to a customer, and resolvers differ in them while a record propagates. */
function meaning<Rr>(answer: Answer<Rr>): string {
  if (answer.kind !== 'records') return '';
  return JSON.stringify([answer.records.map((rr) => JSON.stringify(rr)).sort(), answer.aliases.length > 0]);
}
