import { EventNotUnderstood, upcast, type EventVersions } from './upcast';

/** A made-up model: no event of the product has a third version or has lost a field. */
const shop: EventVersions = {
  written: { Sold: 3, Closed: 1 },
  upcasters: {
    Sold: {
      1: ({ price }: { price: number }) => ({ price, currency: 'AUD' }),
      2: ({ price, ...rest }: { price: number }) => ({ ...rest, cents: price * 100 }),
    },
  },
};
const recorded = (type: string, schemaVersion: number, data: unknown = {}) => ({
  stream: 's',
  time: '2026-03-01T10:00:00.000Z',
  type,
  schemaVersion,
  data,
});

describe('an event of an older schema version', () => {
  it('is lifted by one version after the other, whichever it begins at', () => {
    const now = { cents: 700, currency: 'AUD' };
    expect(upcast(recorded('Sold', 1, { price: 7 }), shop)).toEqual(now);
    expect(upcast(recorded('Sold', 2, { price: 7, currency: 'AUD' }), shop)).toEqual(now);
    expect(upcast(recorded('Sold', 3, now), shop)).toBe(now);
  });

  it('is left as it was recorded', () => {
    const data = Object.freeze({ price: 7 });
    upcast(recorded('Sold', 1, data), shop);
    expect(data).toEqual({ price: 7 });
  });

  it('without an upcaster is a fault of the release', () => {
    for (const type of ['Sold', 'Closed'])
      expect(() => upcast(recorded(type, 0), shop)).toThrow(`${type} has no upcaster from schema version 0.`);
  });
});

describe('an event of a newer release', () => {
  it.each([
    ['Sold', 4, 'Sold in stream s has schema version 4, and this release knows up to 3: it is older than the stream.'],
    ['Moved', 1, 'Unknown event Moved in stream s: this release is older than the stream.'],
    ['constructor', 1, 'Unknown event constructor in stream s: this release is older than the stream.'],
  ])('is refused: %s %i', (type, version, message) => {
    const read = () => upcast(recorded(type, version), shop);
    expect(read).toThrow(new EventNotUnderstood(message));
    expect(read).toThrow(EventNotUnderstood);
    expect(new EventNotUnderstood('').name).toBe('EventNotUnderstood');
  });
});
