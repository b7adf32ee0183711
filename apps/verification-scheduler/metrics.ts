import { Counter, Histogram } from 'prom-client';

/** The result of a look at a domain. */
export type Outcome = 'unchanged' | 'changed' | 'verified' | 'lapsed' | 'failed' | 'undecided' | 'error';

export const lookOutcomes = new Counter<'outcome'>({
  name: 'sendmux_verification_domains_total',
  help: 'Domains that the cycle looked at, by what it led to',
  labelNames: ['outcome'],
});
export const ownershipDisputes = new Counter({
  name: 'sendmux_verification_disputed_ownership_total',
  help: 'Looks at domains whose ownership the resolvers have disagreed about for a cycle or more, with all else in place',
});
export const closedSlots = new Counter({
  name: 'sendmux_verification_slots_total',
  help: 'Slots with domains that were closed',
});
export const lookSeconds = new Histogram({
  name: 'sendmux_verification_look_seconds',
  help: 'How long a look at one domain took',
  buckets: [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30],
});
