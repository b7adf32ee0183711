import { Counter, Gauge, Histogram } from '@app/runtime';

const outcomes = ['unchanged', 'changed', 'verified', 'lapsed', 'failed', 'undecided', 'error'] as const;
/** The result of a look at a domain. */
export type Outcome = (typeof outcomes)[number];

export const lookOutcomes = new Counter<'outcome'>({
  name: 'sendmux_verification_domains_total',
  help: 'Domains that the cycle looked at, by what it led to',
  labelNames: ['outcome'],
});
// The counters start at zero, since an alarm on a share needs a first value.
for (const outcome of outcomes) lookOutcomes.inc({ outcome }, 0);

export const disagreements = new Counter({
  name: 'sendmux_verification_disagreements_total',
  help: 'Looks at domains of which the resolvers gave different answers',
});
export const ownershipDisputes = new Counter({
  name: 'sendmux_verification_disputed_ownership_total',
  help: 'Looks at domains whose ownership the resolvers have disagreed about for a cycle or more, with all else in place',
});
export const closedSlots = new Counter({
  name: 'sendmux_verification_slots_total',
  help: 'Slots with domains that were closed',
});
export const intervalSeconds = new Gauge({
  name: 'sendmux_verification_interval_seconds',
  help: 'VERIFICATION_INTERVAL: the time in which each domain is looked at once',
});
export const lookSeconds = new Histogram({
  name: 'sendmux_verification_look_seconds',
  help: 'How long a look at one domain took',
  buckets: [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30],
});
