/** What came with an answer, for those who explain it: it differs from look to look, and decides nothing but why a SERVFAIL is one. */
export interface Evidence {
  /** Seconds that the answer may still be cached: of records, the least TTL on the way to them; of a negative answer, as RFC 2308 section 5 has it. */
  readonly ttl?: number;
  /** The AD bit: the resolver has validated the answer (RFC 4035 section 3.2.3). */
  readonly authenticated?: boolean;
  /** RFC 8914. */
  readonly extendedErrors?: readonly { readonly code: number; readonly text: string }[];
  /** Of a SERVFAIL: it is the DNSSEC validation that failed. */
  readonly bogus?: true;
}

/** What one resolver said to one question. */
export type Answer<Rr> = (
  | /** RRs of the queried type; `aliases` are the CNAMEs on the way, in their order. */
    { readonly kind: 'records'; readonly records: readonly Rr[]; readonly aliases: readonly string[] }
    /** The name exists, without the queried type (RFC 2308 section 2.2). */
  | { readonly kind: 'nodata'; readonly aliases: readonly string[] }
  | { readonly kind: 'nxdomain'; readonly aliases: readonly string[] }
  | { readonly kind: 'servfail' }
  /** No answer that counts: time-out, REFUSED, a broken message, a status other than 200. */
  | { readonly kind: 'unreachable'; readonly reason: string }
) & { readonly evidence?: Evidence };

export interface MxRr {
  readonly preference: number;
  /** Lower case, without the trailing dot; empty for the root (RFC 7505). */
  readonly exchange: string;
}

/** The concatenated character-strings of one TXT RR, a character a byte. */
export type TxtRr = string;

export type Definite<Rr> = Exclude<Answer<Rr>, { kind: 'servfail' | 'unreachable' }>;

/** What all resolvers together say. */
export type Agreed<Rr> =
  | Definite<Rr>
  | { readonly kind: 'servfail'; readonly bogus: boolean }
  | { readonly kind: 'unreachable' }
  | { readonly kind: 'disagreement'; readonly records: readonly Rr[] };

/**
 * One answer out of several. Those that agree are the answer; a resolver that gives none leaves it to the others; those
 * that disagree decide nothing. SERVFAIL is definite when two resolvers or more were asked and all of them say it: an
 * outage of the DNS provider is the customer's, one of a resolver is ours.
 *
 * @param meaning what an answer comes to; two that come to the same agree, whatever unrelated records one of them does
 * not know yet.
 */
export function quorum<Rr>(answers: readonly Answer<Rr>[], meaning: (answer: Definite<Rr>) => string): Agreed<Rr> {
  const definite = answers.filter((answer) => answer.kind !== 'servfail' && answer.kind !== 'unreachable');
  const [first, ...others] = definite;
  if (first) {
    if (others.every((answer) => meaning(answer) === meaning(first))) return first;
    return {
      kind: 'disagreement',
      records: definite.flatMap((answer) => (answer.kind === 'records' ? answer.records : [])),
    };
  }
  const allServfail = answers.length > 1 && answers.every((answer) => answer.kind === 'servfail');
  if (!allServfail) return { kind: 'unreachable' };
  return { kind: 'servfail', bogus: answers.some(({ evidence }) => evidence?.bogus) };
}
