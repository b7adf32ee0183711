import { checkDelivery, type Arrival, type DeliveryFaults, type Known } from './support/delivery-checker';

const event = (stream: string, version: number): Known => ({ id: `${stream}/${version}`, stream, version });
const [a1, a2, b1] = [event('a', 1), event('a', 2), event('b', 1)];
const at = (known: Known, partition: number, offset: number): Arrival => ({ ...known, partition, offset });
const well = {
  committed: [a1, b1, a2],
  arrivals: [at(a1, 0, 0), at(a2, 0, 1), at(b1, 1, 0)],
  handled: [b1, a1, a2],
  effects: [a1.id, a2.id, b1.id],
};
const none: DeliveryFaults = {
  lost: 0,
  duplicated: 0,
  reordered: 0,
  scattered: 0,
  invented: 0,
  unseen: 0,
  handledOutOfOrder: 0,
  repeatedEffects: 0,
};
const check = (history: Partial<typeof well>) => {
  const { committed, arrivals, handled, effects } = { ...well, ...history };
  return checkDelivery(committed, arrivals, handled, effects);
};

it('finds no fault where there is none', () => expect(check({})).toEqual(none));

it.each<[string, Partial<typeof well>, Partial<DeliveryFaults>]>([
  ['an event that is in no partition', { arrivals: [at(a1, 0, 0), at(b1, 1, 0)] }, { lost: 1 }],
  ['a last event that is in no partition', { arrivals: well.arrivals.slice(0, 2) }, { lost: 1 }],
  ['a record that came twice', { arrivals: [...well.arrivals, at(a1, 0, 2)] }, { duplicated: 1 }],
  ['a batch that came three times', { arrivals: [...well.arrivals, ...[2, 3, 4, 5].map((offset) => at(offset % 2 ? a2 : a1, 0, offset))] }, { duplicated: 4 }], // prettier-ignore
  ['two events the wrong way round', { arrivals: [at(a2, 0, 0), at(a1, 0, 1), at(b1, 1, 0)] }, { reordered: 1 }],
  ['an old event again, after a newer one: a duplicate, in the order of first arrivals', { arrivals: [...well.arrivals, at(a1, 0, 9)] }, { duplicated: 1, reordered: 0 }], // prettier-ignore
  ['a stream in two partitions', { arrivals: [at(a1, 0, 0), at(a2, 2, 0), at(b1, 1, 0)] }, { scattered: 1 }],
  ['an event that nobody committed', { committed: [a1, a2] }, { invented: 1 }],
  ['an event that the consumer skipped', { handled: [b1, a1] }, { unseen: 1 }],
  ['a consumer that takes a stream the wrong way round', { handled: [b1, a2, a1] }, { handledOutOfOrder: 1 }],
  ['an event that is handled again', { handled: [b1, a1, a2, a1] }, {}],
  ['an effect that was made twice', { effects: [...well.effects, b1.id] }, { repeatedEffects: 1 }],
])('counts %s', (_, history, faults) => expect(check(history)).toEqual({ ...none, ...faults }));
